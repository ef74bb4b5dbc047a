# Completion of btsync for bash; needs nothing but bash. tests/completion.rs holds it against the program's own help.
# A new option needs its word in _btsync_options (with = where it takes a value) and, where its value can be completed, its line
# in _btsync_value; a new command its name in _btsync_commands and its line in _btsync_options.

_btsync_commands='create info list magnet edit verify tracker help'

# The options of a command; without a name those of a download.
_btsync_options() {
    case $1 in
        create) echo '-o= --output= -a= --announce= --piece-length= --private --comment= --web-seed= --force --help
            --source= --exclude= --pad-files --node= --no-date' ;;
        info) echo '--json --help' ;;
        list) echo '--select= --select-file= --exclude= --json --peer= --stop-timeout= --help' ;;
        magnet) echo '--no-trackers --peer= --help' ;;
        edit) echo '-o= --output= -a= --announce= --add-announce= --remove-announce= --no-announce --comment= --no-comment --web-seed= --no-web-seed --force --help' ;;
        verify) echo '--select= --select-file= --exclude= --incomplete-suffix= --json -q --quiet --help' ;;
        tracker) echo '--listen= --interval= --help' ;;
        help) ;;
        *) echo '-d= --dir= --config= --conf-path= --no-config --show-config -p= -u= -V -i= --input-file= --watch= -j= --max-concurrent= --max-concurrent-downloads=
            -S --list --select= --select-file= --exclude= --sequential --first-and-last --allow-hidden --incomplete-suffix= --out= --index-out= --show-files --file-allocation=
            --overwrite --allow-overwrite --fsync
            --seed --seed-time= --seed-ratio= --super-seed
            --listen-port= --max-peers= --max-download-limit= --max-overall-download-limit= --max-upload-limit=
            --max-overall-upload-limit= --encryption= --dscp= --peer= --bt-tracker= --bt-exclude-tracker= --no-dht --no-lsd --no-pex
            --dht-entry-point= --interface= --bind=
            --save-torrent= --json --plain --verify --check-integrity --stop-timeout= --peer-id-prefix= --user-agent= --on-download-complete= --on-complete= --on-bt-download-complete= --on-complete-always -v --verbose -q --quiet -h --help --version' ;;
    esac
}

# Candidates for the value of option $1 that begin with $2.
_btsync_value() {
    case $1 in
        --dscp) COMPREPLY=($(compgen -W 'le none cs1 af11 ef' -- "$2")) ;;
        --encryption) COMPREPLY=($(compgen -W 'prefer require off' -- "$2")) ;;
        --interface | --bind) COMPREPLY=($(compgen -W "$(command ls /sys/class/net 2>/dev/null)" -- "$2")) ;;
        --piece-length) COMPREPLY=($(compgen -W '16K 32K 64K 128K 256K 512K 1M 2M 4M 8M 16M' -- "$2")) ;;
        --file-allocation) COMPREPLY=($(compgen -W 'none sparse falloc' -- "$2")) ;;
        --save-torrent | --output | --config | --conf-path | -o | -i | --input-file) _btsync_files "$2" ;;
        --dir | -d | --watch) _btsync_folders "$2" ;;
    esac
}

# File names that begin with $1; with $2 only those that match this pattern, and folders.
_btsync_files() {
    local IFS=$'\n'
    compopt -o filenames
    if [[ $# -eq 1 ]]; then
        COMPREPLY=($(compgen -f -- "$1"))
    else
        COMPREPLY=($(compgen -d -- "$1") $(compgen -f -X "!$2" -- "$1"))
    fi
}

# Folders that begin with $1.
_btsync_folders() {
    local IFS=$'\n'
    compopt -o filenames
    COMPREPLY=($(compgen -d -- "$1"))
}

# Sets command, option (whose value the current word is) and names (how many came before the current word).
_btsync_look() {
    local at word options
    command='' option='' names=0
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word == -* ]] && continue
        [[ " $_btsync_commands " != *" $word "* ]] || command=$word
        break
    done
    options=" $(_btsync_options "$command" | tr -s '\n ' ' ') "
    for ((at = 1; at < COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $option && $word == '=' ]]; then
            continue
        elif [[ $word == [:=] || ${COMP_WORDS[at - 1]} == [:=] && -z $option ]]; then
            # readline cuts words at these: what is around them is one.
            continue
        elif [[ $option ]]; then
            option=''
        elif [[ $options == *" $word= "* ]]; then
            option=$word
        elif [[ $word != -* && $word != "$command" ]]; then
            names=$((names + 1))
        fi
    done
}

_btsync() {
    local current=${COMP_WORDS[COMP_CWORD]} command option names
    COMPREPLY=()
    _btsync_look
    [[ $current != '=' ]] || current=''
    if [[ $option ]]; then
        _btsync_value "$option" "$current"
    elif [[ $current == -* ]]; then
        local options
        options=$(_btsync_options "$command")
        COMPREPLY=($(compgen -W "${options//=/}" -- "$current"))
    elif [[ $command == help ]]; then
        COMPREPLY=($(compgen -W "${_btsync_commands% help}" -- "$current"))
    elif [[ $command == create ]]; then
        _btsync_files "$current"
    elif [[ $command != tracker && $names -eq 0 ]]; then
        _btsync_files "$current" '*.torrent'
        [[ $command ]] || COMPREPLY+=($(compgen -W "$_btsync_commands" -- "$current"))
    elif [[ -z $command ]]; then
        # Another torrent, or the folder.
        _btsync_files "$current" '*.torrent'
    elif [[ $command == verify && $names -eq 1 ]]; then
        _btsync_folders "$current"
    fi
}

complete -F _btsync btsync
