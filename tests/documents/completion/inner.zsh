# Sourced by the zsh that zsh.zsh starts: completes $LINE with the completions in $FOLDER and writes the candidates to $SAID.
fpath=($FOLDER $fpath)
autoload -U compinit && compinit -u -D
compadd() {
    # With -A, -O or -D compadd adds no candidates.
    if [[ " ${(j: :)@[1,(i)(-|--)]}" != *' -'[AOD]' '* ]]; then
        local -a candidates
        builtin compadd -A candidates "$@"
        print -rl -- $candidates >>$SAID
    fi
    builtin compadd "$@"
}
# Inserts and lists nothing: zsh would ask before it shows a list longer than the screen.
hush() { compstate[list]='' compstate[insert]='' }
probe() {
    BUFFER=$LINE CURSOR=$#LINE
    comppostfuncs=(hush)
    zle complete
    print '#done' >>$SAID
    exit
}
zle -C complete complete-word _main_complete
zle -N probe
zle-line-init() { zle probe }
zle -N zle-line-init
