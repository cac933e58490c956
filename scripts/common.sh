# shellcheck shell=sh
# Sourced by the other scripts: where things are, who runs the server, how to talk to the user.

checkout=$(cd "$(dirname "$0")/.." && pwd)
workdir=${WORKDIR:-$checkout/.work}
case $workdir in /*) ;; *) workdir=$PWD/$workdir ;; esac
marker=.pgml_transform # a directory with this file in it was made here, and may be removed again
cd "$checkout" || exit

umask 022
unset PYTHONPATH PYTHONHOME PGSERVICE PGOPTIONS PGHOSTADDR PGPASSWORD

say() { echo "==> $*" >&2; }

# die PROBLEM [REMEDY...]: one line each.
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# = 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}

# Runs a command silently; shows the end of what it wrote when it fails.
quietly() {
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then rm -f "$log"; else
        tail -n 40 "$log" >&2
        rm -f "$log"
        die "this failed: $*"
    fi
}

is_root() { [ "$(id -u)" = 0 ]; }

# PostgreSQL refuses to run as root: for root it runs as the user that its packages make.
as_server() { if is_root; then runuser -u postgres -- "$@"; else "$@"; fi; }

# The Python side of the private server.
private_venv() { echo "$("$(cat "$workdir/pg_config")" --pkglibdir)/pgml_transform"; }

# The directory itself, or the nearest one above it that exists.
existing() {
    dir=$1
    while [ ! -e "$dir" ]; do dir=$(dirname "$dir"); done
    echo "$dir"
}

# Such a path is written into SQL, Python, sed and PostgreSQL's configuration: no character may mean anything there.
check_path() {
    case $2 in
    /*) ;;
    *) die "$1=$2 is not an absolute path" "for example: $1=/var/tmp/pgml_transform" ;;
    esac
    case $2 in
    *[!A-Za-z0-9/._+\ @:~-]*) die "$1=$2 has characters in it that cannot be quoted everywhere" "use letters, digits and / . _ + -" ;;
    esac
}

# Makes a directory and claims it, unless somebody else's files are in it.
claim() {
    if [ -n "$(ls -A "$1" 2>/dev/null)" ] && [ ! -e "$1/$marker" ]; then
        die "$1 has other files in it" "name a new or empty directory: $2"
    fi
    [ -w "$(existing "$1")" ] || die "no permission to write to $(existing "$1")" "$3"
    mkdir -p "$1"
    : >"$1/$marker"
}

# The interpreter that a plpython3.so embeds; the first python3 in PATH may be another one.
embedded_python() {
    library=$(ldd "$1" 2>/dev/null | sed -n 's/.*\(libpython3\.[0-9]*\)[^ ]* => \(\/[^ ]*\).*/\2/p')
    [ -n "$library" ] || return 1
    name=$(basename "$library" | sed 's/^lib\(python3\.[0-9]*\).*/\1/')
    directory=$(dirname "$(readlink -f "$library")")
    for python in "${directory%/lib*}/bin/$name" "/usr/bin/$name"; do
        if [ -x "$python" ]; then echo "$python" && return; fi
    done
    command -v "$name"
}
