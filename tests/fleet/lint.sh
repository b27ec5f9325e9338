#!/bin/bash
# What Galaxy and Ansible's own linter say of the collection. Downloads them from PyPI; not part of tests/run.sh.
#
#   tests/fleet/lint.sh       VENV=DIR uses or makes the Python environment there
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
venv=${VENV:-$work/venv}
[ -x "$venv/bin/ansible-lint" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet ansible-lint==26.10.1 galaxy-importer==0.4.44; }
export PATH=$venv/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$home/.fleet/ansible

cd "$home/.fleet/ansible/ansible_collections/unaufs/migrate"
ansible-lint --offline --nocolor --profile production
cmp LICENSE "$home/LICENSE"
echo 'ok  ansible-lint, production'

cd "$work"
ansible-galaxy collection build "$home/.fleet/ansible/ansible_collections/unaufs/migrate" >/dev/null
printf '[galaxy-importer]\nRUN_ANSIBLE_DOC=True\nRUN_ANSIBLE_LINT=False\nCHECK_REQUIRED_TAGS=True\n' >importer.cfg
GALAXY_IMPORTER_CONFIG=$work/importer.cfg python3 -m galaxy_importer.main unaufs-migrate-*.tar.gz 2>&1 | tee log
grep -q 'completed successfully' log
! grep -E 'WARNING|ERROR' log
echo 'ok  galaxy-importer'
