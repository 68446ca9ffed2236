#!/bin/sh
# The receiver of slices on another host. It does what receiver.py does, and needs a POSIX sh and the tools below.
#
# A slice is written whole or not at all: its bytes go to a temporary name that no file_sd pattern matches, length and SHA-256
# of that file are checked, it is synced, renamed, and the folder is synced. Beside NAME stands the note .NAME.promring with the
# generation and the SHA-256 that were accepted last. An older generation is refused. The note is written first: a receiver
# that is killed in between has the old slice and takes the new one again.
#
# Two ways to call it:
#   ask PATH GENERATION SHA256 LENGTH WORD SECONDS OWN    one slice; the bytes come on stdin, within SECONDS, when it asks for them
#   bring FOLDER RELOAD NAME SHARED                       many slices, which stand behind this program in the same file
# WORD: random, for the temporary names. OWN: how many of the last folders of PATH may not be symlinks. RELOAD: "reload" when
# the scraper is told of changes, else anything. NAME: instead of the names in the list, or empty; refused when SHARED is
# "shared", since several services have files in FOLDER then.
# Behind the program: "# slices", a line a slice, an empty line, the bytes of all slices. A line has GENERATION SHA256 LENGTH
# WORD, how many bytes before the end of the file the slice begins, and its NAME.
#
# It says lines: "promring NUMBER WHAT". NUMBER is the slice's, from 0. WHAT is "at PATH" (of each in the list), "need" (send
# the bytes now), "remark note_ignored" or "remark folder_writable_by_all", and last "written", "same", "reload" (the same, but the scraper is not told
# of it yet), "refused GENERATION" (it has that one, a newer one or another slice) or "error WHY". It fails when no slice is there now.
#
# No FIFO, device or symlink is opened. Numbers of more than 15 digits are no controller's (model.EPOCH_MOST). It holds no lock
# before the bytes are here: a sender that is frozen stops nobody. Where there is no flock, two writers of one file may mix: the
# next delivery mends that.
{
set -u
umask 022
LC_ALL=C
export LC_ALL
number=0 hash='' remarked='' reload='' own=1

say() { printf 'promring %s %s\n' "$number" "$*"; }

fail() { # WHY: the end of this slice
  say error "$(printf %s "$*" | tr '\001-\037\177' ' ' | cut -c 1-300)"
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

find_tools() {
  for tool in cat cut dd head mkdir mv rm sed sync tail tr wc; do
    has "$tool" || { say error "there is no $tool in $PATH"; exit 1; }
  done
  for hash in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' 'sha256 -q'; do
    has "${hash%% *}" && return
  done
  fail "there is no sha256sum, shasum, openssl or sha256 in $PATH: no slice can be checked"
}

is_number() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  [ ${#1} -le 15 ]
}

is_generation() {
  case $1 in *.*) is_number "${1%%.*}" && is_number "${1#*.}" ;; *) return 1 ;; esac
}

halves() { # NUMBER: high, low; some shells count in 32 bits, or take a leading 0 for octal
  padded=000000000000000$1
  padded=${padded#"${padded%???????????????}"}
  high=1${padded%???????} low=1${padded#????????}
}

is_less() { # NUMBER OTHER
  halves "$1"
  first_high=$high first_low=$low
  halves "$2"
  [ "$first_high" -lt "$high" ] || { [ "$first_high" -eq "$high" ] && [ "$first_low" -lt "$low" ]; }
}

is_next() { # NUMBER OTHER: whether OTHER is NUMBER + 1
  halves "$1"
  next_high=$high next_low=$((low + 1))
  [ "$next_low" -lt 20000000 ] || next_high=$((high + 1)) next_low=10000000
  halves "$2"
  [ "$next_high" -eq "$high" ] && [ "$next_low" -eq "$low" ]
}

is_older() { # GENERATION OTHER
  is_less "${1%.*}" "${2%.*}" || { ! is_less "${2%.*}" "${1%.*}" && is_less "${1#*.}" "${2#*.}"; }
}

# --- what is there ---

refuse_linked_folders() {
  bare "$folder"
  left=$own
  while [ "$left" -gt 0 ] && [ -n "$at" ]; do
    [ ! -L "$at" ] || fail "$at is a symlink, which is not followed: configure $(cd -- "$at" 2>/dev/null && pwd -P)"
    case $at in */*) bare "${at%/*}" ;; *) return ;; esac
    left=$((left - 1))
  done
}

bare() { # FOLDER: at, without what would follow a symlink at its end
  at=$1
  while :; do
    case $at in */) at=${at%/} ;; */.) at=${at%.} ;; *) return ;; esac
  done
}

refuse_odd() { # FILE: it may be missing
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -f "$1" ]; }; then fail "$1 is not a regular file"; fi
}

size_of() { wc -c <"$1" | tr -d ' '; }

digest_of() { $hash <"$1" | cut -c 1-64; }

is_whole() { [ "$(size_of "$1")" = "$length" ] && [ "$(digest_of "$1")" = "$sha256" ]; }

is_there() { [ -f "$path" ] && [ ! -L "$path" ] && is_whole "$path"; }

remark_note() {
  [ -n "$remarked" ] || say remark note_ignored
  remarked=yes
}

read_note() { # have, have_sha256; fails when there is no note, or a damaged one
  have='' have_sha256='' follows=''
  refuse_odd "$note"
  [ -e "$note" ] || return 1
  problem=$({ : <"$note"; } 2>&1) || fail "$problem"
  line=$(dd bs=4096 count=1 <"$note" 2>/dev/null) || fail "$note cannot be read"
  read -r have have_sha256 follows <<END
$line
END
  if ! is_generation "$have" || [ -z "$have_sha256" ]; then remark_note; return 1; fi
  [ -z "$follows" ] || { is_number "$follows" && is_next "${have%.*}" "$follows"; } || { remark_note; return 1; }
}

fence() { # known: whether the note has exactly this slice
  known=no
  read_note || return 0
  is_older "$have" "$generation" && return 0
  if is_older "$generation" "$have" || [ "$have_sha256" != "$sha256" ]; then
    say refused "$have"
    exit 1
  fi
  known=yes
}

# --- one slice ---

settle() { # FILE OR FOLDER: to the disk; some sync takes no names
  problem=$(sync -- "$1" 2>&1) && return
  if sync -- / >/dev/null 2>&1; then fail "$problem"; fi
  sync
}

bytes() {
  if [ "$mode" = bring ]; then
    tail -c "$begins" <"$self" | head -c "$length"
  elif timeout 1 true 2>/dev/null; then
    timeout "$seconds" cat
  else
    cat
  fi
}

receive() {
  find "$folder" -maxdepth 1 -name ".$name.*.promring-tmp" -mmin +1 -exec rm -f -- {} + 2>/dev/null
  [ "$mode" = bring ] || say need
  problem=$({ set -C; bytes >"$new"; } 2>&1) || fail "${problem:-the bytes did not come in time}"
  is_whole "$new" || fail "$(size_of "$new") bytes came that are not the $length of SHA-256 $sha256"
  settle "$new"
}

write_note() {
  problem=$({ set -C; printf '%s\n' "$generation $sha256" >"$new_note"; } 2>&1) || fail "$problem"
  [ "$(cat -- "$new_note")" = "$generation $sha256" ] || fail "the note could not be written"
  settle "$new_note"
  problem=$(mv -f -- "$new_note" "$note" 2>&1) || fail "$problem"
}

put_in_place() {
  fence
  [ -e "$new" ] || is_there || fail "another writer changed it meanwhile"
  [ $known = yes ] || write_note
  [ -e "$new" ] || { say_same; return; }
  if [ -n "$reload" ]; then
    problem=$({ : >"$mark"; } 2>&1) || fail "$problem"
  fi
  if [ -L "$path" ] && [ -d "$path" ]; then rm -f -- "$path"; fi # mv would move into the folder that it names
  [ ! -d "$path" ] || fail "it is a folder"
  problem=$(mv -f -- "$new" "$path" 2>&1) || fail "$problem"
  settle "$folder"
  say written
}

say_same() { if [ -n "$reload" ] && [ -e "$mark" ]; then say reload; else say same; fi; }

lock_and_put() {
  has flock || { put_in_place; return; }
  problem=$({ umask 077; : >>"$lock"; } 2>&1) || fail "$problem"
  (
    tries=0
    until flock -n 9; do
      tries=$((tries + 1))
      [ $tries -le 20 ] || fail "another writer holds on to it"
      sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
    done
    put_in_place
  ) 9<"$lock"
}

take() { # path generation sha256 length word; in a subshell
  folder=${path%/*}/ name=${path##*/}
  note=$folder.$name.promring lock=$folder.$name.promring-lock mark=$folder.$name.promring-reload
  new=$folder.$name.$word.promring-tmp new_note=$folder.$name.$word.note.promring-tmp
  find_tools
  is_generation "$generation" || fail "generation $generation is higher than any controller's"
  trap 'rm -f -- "$new" "$new_note" 2>/dev/null' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  refuse_linked_folders
  if [ -d "$path" ] && [ ! -L "$path" ]; then fail "it is a folder"; fi
  [ -L "$path" ] || refuse_odd "$path"
  refuse_odd "$lock"
  [ -z "$reload" ] || refuse_odd "$mark"
  fence
  if ! is_there; then
    problem=$(mkdir -p -- "$folder" 2>&1) || fail "$problem"
    refuse_linked_folders
    receive
  elif [ $known = yes ]; then
    remark_folder
    say_same
    return
  fi
  remark_folder
  lock_and_put
}

remark_folder() {
  [ -z "$(find "$folder." -prune -perm -0002 ! -perm -1000 2>/dev/null)" ] || say remark folder_writable_by_all
}

# --- many slices ---

the_list() { sed '1,/^# slices$/d; /^$/q' <"$self"; }

take_all() {
  taken=0
  while read -r generation sha256 length word begins name <&3 && [ -n "$generation" ]; do
    if [ -n "$other_name" ] && [ -n "$shared" ]; then
      (fail "the extra variables name one file, $other_name, for several services")
    else
      path=$within/${other_name:-$name}
      say at "$path"
      (take) && taken=$((taken + 1))
    fi
    number=$((number + 1))
  done 3<<END
$(the_list)
END
  [ $taken -gt 0 ] || { echo "none of $number slices could be installed" >&2; exit 1; }
}

mode=$1
case $mode in
  ask)
    path=$2 generation=$3 sha256=$4 length=$5 word=$6 seconds=$7 own=$8
    (take)
    ;;
  bring)
    within=$2 other_name=$4 shared=''
    [ "$3" != reload ] || reload=yes
    [ "$5" != shared ] || shared=yes
    case $0 in /*) self=$0 ;; *) self=$PWD/$0 ;; esac
    take_all
    ;;
esac
exit
}
