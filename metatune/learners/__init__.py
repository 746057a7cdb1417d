"""Learners: strategies at work, batched over tasks."""
