#!/bin/sh
# Installs the slices that follow: each whole or not at all, never an older one over a newer one.
#
# Arguments: folder; "reload" when the scraper is to be told, else anything; a file name that takes the place of the one in
# the list, or nothing. Behind the last line of this script comes the list, a line a slice, then an empty line and the bytes
# of all slices. A line of the list: SHA-256, generation (epoch.n), where the slice begins (bytes before the end of this
# file), its length, file name.
#
# Says for each line, counted from 0, "promring-file NUMBER RESULT": "written"; "same" when the bytes were there; "reload"
# when they were, but the scraper has not been told of them yet; "failed WHY". It fails when no slice could be installed.
#
# Beside a file, in .NAME.promring, is what was accepted last: generation and SHA-256. It is written first: who dies in
# between has the old slice, and takes the new one again. No file_sd pattern matches any of the names used on the way.
set -eu
umask 022
LC_ALL=C
export LC_ALL
folder=$1 reload=${2:-} other_name=${3:-}
[ "$reload" = reload ] || reload=''

refuse() {
  printf '%s: %s\n' "$folder/$name" "$1" >&2
  exit 1
}
plain() { # or not there: nothing is read from a FIFO, no symlink is followed
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then refuse "$1 beside it is not a regular file"; fi
}
digest_of() {
  $hash < "$1" | cut -c 1-64
}
has() { command -v "$1" > /dev/null 2>&1; }
hash=''
for one in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' 'sha256 -q'; do
  if [ -z "$hash" ] && has "${one%% *}"; then hash=$one; fi
done
settle() {
  sync -- "$1" 2> /dev/null || sync
}
older() {
  [ "${1%.*}" -lt "${2%.*}" ] || { [ "${1%.*}" -eq "${2%.*}" ] && [ "${1#*.}" -lt "${2#*.}" ]; }
}

install_one() {
  if [ -n "$other_name" ] && [ "$number" -gt 0 ]; then refuse 'the extra variables give it to the slice of another service'; fi
  note=.$name.promring mark=.$name.promring-reload
  [ -n "$hash" ] || refuse "there is no sha256sum, shasum, openssl or sha256 in $PATH: no slice can be checked"
  for tool in cat cmp cut dd find grep head mkdir mktemp mv rm sed sync tail tr; do
    has "$tool" || refuse "there is no $tool in $PATH"
  done
  bare=$(printf '%s' "$folder" | sed 's:/*$::')
  mkdir -p -- "$folder"
  if [ -n "$bare" ] && [ -L "$bare" ]; then
    refuse "$bare is a symlink, which is not followed: configure $(cd -- "$bare" && pwd -P)"
  fi
  cd -- "$folder"
  if [ -n "$(find . -prune -perm -0002 ! -perm -1000 2> /dev/null)" ]; then
    echo "promring: everybody may write into $folder: chmod o-w, or give it the sticky bit" >&2
  fi
  plain "$note" && plain ".$name.promring-lock" && plain "$mark"
  if has flock; then
    umask 077
    exec 9>> ".$name.promring-lock"
    umask 022
    flock -w 2 9 || refuse 'another one is writing it'
    rm -f -- ".$name."*.promring-tmp # what a killed one left
  fi

  if [ -d "$name" ]; then refuse 'is a folder'; fi
  if [ -e "$name" ] && [ ! -L "$name" ] && [ ! -f "$name" ]; then refuse 'is not a regular file'; fi
  is_generation() { printf '%s\n' "$1" | grep -Eqx '[0-9]{1,15}[.][0-9]{1,15}'; } # no controller comes further
  if ! is_generation "$generation"; then refuse "generation $generation is higher than any controller's"; fi
  had='' had_digest=''
  if [ -e "$note" ]; then
    line=$(dd bs=4096 count=1 < "$note" 2> /dev/null) || refuse 'its note cannot be read'
    read -r had had_digest << END || :
$line
END
  fi
  if [ -n "$had" ] && ! is_generation "$had"; then
    echo "promring: $folder/$note is ignored: $had is not a generation of a controller" >&2
    had=''
  fi
  if [ -n "$had" ]; then
    if older "$generation" "$had"; then
      remedy=''
      if printf '%s\n' "$had" | grep -Eq '[0-9]{15}'; then
        remedy="; no controller comes so far: if another program wrote it, remove $folder/$note"
      fi
      refuse "has generation $had, refuses the older $generation$remedy"
    fi
    if [ "$had" = "$generation" ] && [ "$had_digest" != "$digest" ]; then refuse "has another slice of generation $had"; fi
  fi

  new=$(mktemp ".$name.XXXXXXXX")
  trap 'rm -f -- "$new" "$new.promring-tmp"' EXIT
  trap 'exit 1' HUP INT TERM
  mv -f -- "$new" "$new.promring-tmp"
  new=$new.promring-tmp
  tail -c "$begins" < "$self" | head -c "$length" > "$new"
  [ "$(digest_of "$new")" = "$digest" ] || refuse 'the bytes that came are not those of the SHA-256'
  chmod 644 "$new"

  if [ "$had $had_digest" != "$generation $digest" ]; then
    printf '%s %s\n' "$generation" "$digest" > "$note.promring-tmp"
    settle "$note.promring-tmp"
    mv -f -- "$note.promring-tmp" "$note"
  fi
  if [ -f "$name" ] && [ ! -L "$name" ] && cmp -s -- "$new" "$name"; then
    if [ -n "$reload" ] && [ -e "$mark" ]; then echo reload; else echo same; fi
    exit 0
  fi
  settle "$new"
  if [ -n "$reload" ]; then : > "$mark"; fi
  mv -f -- "$new" "$name"
  settle .
  echo written
}

case $0 in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
number=0 installed=0
while read -r digest generation begins length name <&3 && [ -n "$digest" ]; do
  set +e
  said=$(set -e; [ -z "$other_name" ] || name=$other_name; install_one 2>&1)
  status=$?
  set -e
  printf '%s\n' "$said" | sed -n '/^promring: /p' >&2
  last=$(printf '%s\n' "$said" | sed -n '$p' | tr '\001-\011\013-\037\177' ' ')
  if [ $status = 0 ]; then
    installed=$((installed + 1))
    echo "promring-file $number $last"
  else
    printf 'promring-file %s failed %s\n' "$number" "$last"
    printf '%s\n' "$last" >&2
  fi
  number=$((number + 1))
done 3<< END
$(sed '1,/^: here the list begins$/d; /^$/q' < "$self")
END
[ $installed -gt 0 ] || exit 1
exit 0
: here the list begins
