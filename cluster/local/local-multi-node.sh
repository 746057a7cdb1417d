#!/usr/bin/env bash
# A real Ray cluster of several nodes on this machine: on loopback, behind a token of its own.
#
#   cluster/local/local-multi-node.sh --nodes 3 --cpus 1
#
# prints what to type in another terminal, and keeps the nodes until Ctrl-C.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" "$here/local_multi_node.py" "$@"
