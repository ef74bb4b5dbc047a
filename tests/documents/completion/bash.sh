# Prints bash's candidates for an unfinished command line, one per line: bash bash.sh COMPLETIONS LINE
# Splits the line as readline does: at spaces, and at = and :, which become words of their own.
source "$1" || exit 1
compopt() { :; } # works only within readline
COMP_LINE=$2
COMP_POINT=${#2}
text=$2
COMP_WORDS=()
for cut in '=' ':'; do text=${text//"$cut"/" $cut "}; done
eval "COMP_WORDS=($text)" # quotes and backslashes as in the shell
case $2 in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
spec=$(complete -p btsync) || exit 1
"$(sed -n 's/.*-F \([^ ]*\) .*/\1/p' <<<"$spec")" btsync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[ "${#COMPREPLY[@]}" -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}"
