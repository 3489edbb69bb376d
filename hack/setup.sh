# shellcheck shell=bash
# What the scripts here need, from a bare Debian 12 as root on: sourced by them, it defines functions and does nothing.
#
#   say TEXT             a line of progress
#   die TEXT...          say what went wrong and what to do, and leave
#   setup_packages [dev]  Debian's packages: the container runtime, with `dev` what only tests stand on; nothing is started
#   setup_venv [dev]     .venv with hookshim installed, and with `dev` what tests and lint need

hookshim_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf '==> %s\n' "$*"; }

die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# = 0 ] || printf '       %s\n' "$@" >&2
  exit 1
}

# run WHAT COMMAND...: a command whose output matters only if it fails.
run() {
  local what=$1 output
  shift
  say "$what"
  output=$("$@" 2>&1) || die "$what failed:" "$output"
}

setup_packages() {
  [ "$(id -u)" = 0 ] || die "this needs root, for containers and network namespaces" "run it again as root: sudo $0"
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    die "this needs Debian 12 or something like it: there is no apt-get here" \
      "install containerd 1.6, runc, the CNI plugins, static busybox, iptables and iproute2 on a Debian 12 machine"
  local wanted=(containerd runc containernetworking-plugins busybox-static iptables iproute2) missing=() name
  [ "${1:-}" != dev ] ||
    wanted+=(docker-registry e2fsprogs prometheus chromium chromium-driver debootstrap nghttp2-client systemd dpkg-dev fakeroot)
  # a python3 from elsewhere may have its own venv; Debian's has not without a package
  python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
  # the package's environment is made by Debian's own python3, whatever comes first in PATH
  [ "${1:-}" != dev ] || /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || wanted+=(python3-venv)
  for name in "${wanted[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  run "asking Debian's mirror what there is (apt-get update)" apt-get -o DPkg::Lock::Timeout=120 update
  forbid_services
  # --no-remove: whoever has another containerd (as Docker's containerd.io) is not to lose it
  run "installing ${missing[*]} (apt-get install)" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends --no-remove "${missing[@]}"
  allow_services
  disable_services
}

# While packages are installed, Debian asks /usr/sbin/policy-rc.d whether their services may start.
policy=/usr/sbin/policy-rc.d

forbid_services() {
  local answer service
  if [ -e "$policy" ]; then
    for service in containerd "${only_programs[@]}"; do
      answer=0
      "$policy" "$service" start >/dev/null 2>&1 || answer=$?
      [ "$answer" = 101 ] || die "$policy lets a $service service start when its package is installed" \
        "install the packages yourself: apt-get install ${missing[*]}"
    done
    return
  fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  policy_is_ours=1
  trap allow_services EXIT
}

allow_services() {
  [ -z "${policy_is_ours:-}" ] || rm -f "$policy"
  policy_is_ours=
}

# Needed as programs only: their services would listen on every address from the next boot on. What was there before is
# its owner's and stays as it is.
only_programs=(docker-registry prometheus)

disable_services() {
  local name
  for name in "${only_programs[@]}"; do
    [[ " ${missing[*]} " != *" $name "* ]] ||
      run "keeping the $name service from starting at boot" update-rc.d "$name" disable
  done
}

setup_venv() {
  local extra=${1:-} python=.venv/bin/python wanted stamp
  cd "$hookshim_root" || exit 1
  if ! "$python" -c '' 2>/dev/null; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
      die "hookshim needs Python 3.11 or newer; python3 is $(python3 --version 2>&1)"
    rm -rf .venv
    run "making .venv" python3 -m venv .venv
  fi
  wanted=$("$python" --version | cat - pyproject.toml hack/constraints.txt | sha256sum)
  for stamp in .venv/hookshim-dev ".venv/hookshim-${extra:-runtime}"; do
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
  done
  run "installing hookshim into .venv (pip; a minute the first time)" \
    "$python" -m pip install --quiet --disable-pip-version-check --constraint hack/constraints.txt --editable ".${extra:+[$extra]}"
  printf '%s\n' "$wanted" >".venv/hookshim-${extra:-runtime}"
}
