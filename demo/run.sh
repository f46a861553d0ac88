#!/bin/sh
# Rank the documents of this folder for three queries. Usage: sh demo/run.sh [SIGHTRANK]
set -eu
sightrank=${1:-.venv/bin/sightrank}

ask() {
    printf '\n$ sightrank rank "%s"' "$1"
    printf ' %s' $2
    printf '\n\n'
    "$sightrank" rank "$1" $2
}

ask "vacaciones pagadas" "demo/passages --top 5"
ask "sailing off the wind" "demo/pictures --top 3"
ask "bitmap and vector drawing programs" "demo/xfig-howto.pdf#pages=2-8 --top 3"
