# Prints zsh's candidates for an unfinished command line, one per line: zsh -f zsh.zsh FOLDER_OF_COMPLETIONS LINE
# Completion works only in the line editor of a terminal, so this runs another zsh in a pseudo-terminal, where compadd also writes
# its candidates to a file.
zmodload zsh/zpty || exit 1
said=$(mktemp) || exit 1
export SAID=$said FOLDER=$1 LINE=$2
zpty inner zsh -f -i
zpty -w inner 'source '"${(q)0:A:h}/inner.zsh"
# The inner shell ends by itself; discard its terminal output.
while zpty -r inner nothing; do :; done
[[ ${"$(tail -n 1 $said)"} == '#done' ]] || { print -u2 'zsh did not complete'; cat $said >&2; exit 1 }
grep -vE '^(#done)?$' $said | sort -u
rm -f $said
