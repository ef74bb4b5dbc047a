# Completion of btsync for bash; needs nothing but bash.
# Generated from src/cli/options by `make docs`: do not edit. The functions are in src/cli/options/generated/btsync.bash.in.

_btsync_commands='create info list magnet edit verify tracker serve dht doctor help'

# The options of a command, with = behind those that take a value; without a name those of a download.
_btsync_options() {
    case $1 in
        create) echo '-o= --output= -a= --announce= --piece-length= --private --comment= --web-seed= --source=
            --exclude= --pad-files --v1 --v2 --hybrid --node= --no-date --force -h --help' ;;
        info) echo '--json -h --help' ;;
        list) echo '--select= --select-file= --exclude= --json --peer= --stop-timeout= -h --help' ;;
        magnet) echo '--no-trackers --peer= -h --help' ;;
        edit) echo '-o= --output= -a= --announce= --add-announce= --remove-announce= --no-announce --comment=
            --no-comment --web-seed= --no-web-seed --force -h --help' ;;
        verify) echo '--select= --select-file= --exclude= --incomplete-suffix= --json -q --quiet -h --help' ;;
        tracker) echo '--listen= --interval= -h --help' ;;
        serve) echo '-d= --dir= --allow-dir= --web-listen= --listen= --state-dir= --state= --watch= --peer-port=
            --port-mapping --no-port-mapping --transport= --proxy= --anonymous --no-web-seeds --block-list=
            --import-transmission= --import-qbittorrent= --set-password= --password-file= --web-host= --web-prefix=
            --metrics -h --help' ;;
        dht) echo '--salt= --value= --key= --wait= -p= --listen-port= --interface= --bind= --proxy= --dht-entry-point=
            --config= --conf-path= --no-config -h --help' ;;
        doctor) echo '--wait= --json -p= --listen-port= --interface= --bind= --proxy= --port-mapping --no-port-mapping
            --no-dht --dht-entry-point= --config= --conf-path= --no-config -h --help' ;;
        help) echo '' ;;
        *) echo '-d= --dir= -S --list --show-files --select= --select-file= --exclude= --out= --index-out= --sequential
            --first-and-last --file-allocation= --incomplete-suffix= --allow-hidden --overwrite --allow-overwrite
            --fsync --verify --check-integrity --save-torrent= --seed --seed-time= --seed-ratio= --super-seed -p=
            --listen-port= --max-peers= --max-download-limit= --max-overall-download-limit= -u= --max-upload-limit=
            --max-overall-upload-limit= --encryption= --transport= --dscp= --interface= --bind= --proxy= --anonymous
            --port-mapping --no-port-mapping --block-list= --peer-id-prefix= --user-agent= --peer= --bt-tracker=
            --bt-exclude-tracker= --web-seed= --no-web-seeds --no-dht --dht-entry-point= --no-lsd --no-pex -i=
            --input-file= -j= --max-concurrent= --max-concurrent-downloads= --watch= --json --plain --web --web-listen=
            -q --quiet -v --verbose --stop-timeout= --on-download-complete= --on-complete= --on-bt-download-complete=
            --on-complete-always --config= --conf-path= --no-config --show-config -h --help -V --version' ;;
    esac
}

# The kinds of names that a command takes, in their order.
_btsync_arguments() {
    case $1 in
        create) echo 'source' ;;
        info) echo 'torrent' ;;
        list) echo 'torrent' ;;
        magnet) echo 'torrent' ;;
        edit) echo 'torrent' ;;
        verify) echo 'torrent folder' ;;
        tracker) echo '' ;;
        serve) echo '' ;;
        dht) echo '' ;;
        doctor) echo 'folder' ;;
        help) echo 'command' ;;
        *) echo 'torrents' ;;
    esac
}

# Candidates for the value of option $1 that begin with $2.
_btsync_value() {
    case $1 in
        --bind | --interface) COMPREPLY=($(compgen -W "$(command ls /sys/class/net 2>/dev/null)" -- "$2")) ;;
        --incomplete-suffix) COMPREPLY=($(compgen -W '.part' -- "$2")) ;;
        --piece-length) COMPREPLY=($(compgen -W '16K 32K 64K 128K 256K 512K 1M 2M 4M 8M 16M' -- "$2")) ;;
        --encryption) COMPREPLY=($(compgen -W 'allow require off' -- "$2")) ;;
        --transport) COMPREPLY=($(compgen -W 'both tcp utp' -- "$2")) ;;
        --dscp) COMPREPLY=($(compgen -W 'le none cs1 af11 ef' -- "$2")) ;;
        --file-allocation) COMPREPLY=($(compgen -W 'none sparse falloc' -- "$2")) ;;
        --proxy) COMPREPLY=($(compgen -W 'socks5:// socks4a:// http://' -- "$2")) ;;
        --block-list | --conf-path | --config | --input-file | --key | --output | --password-file | --save-torrent | --value | -i | -o) _btsync_files "$2" ;;
        --allow-dir | --dir | --import-qbittorrent | --import-transmission | --state | --state-dir | --watch | -d) _btsync_folders "$2" ;;
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

# Sets command, option (whose value the current word is) and names (the number of names before the current word).
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
            # readline splits words at these characters: the parts belong together.
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
    local current=${COMP_WORDS[COMP_CWORD]} command option names options kinds kind
    COMPREPLY=()
    _btsync_look
    [[ $current != '=' ]] || current=''
    if [[ $option ]]; then
        _btsync_value "$option" "$current"
        return
    elif [[ $current == -* ]]; then
        options=$(_btsync_options "$command")
        COMPREPLY=($(compgen -W "${options//=/}" -- "$current"))
        return
    fi
    kinds=($(_btsync_arguments "$command"))
    # Any number of torrents.
    [[ ${kinds[0]-} == torrents ]] && kind=torrents || kind=${kinds[names]-}
    case $kind in
        torrent | torrents) _btsync_files "$current" '*.torrent' ;;
        source) _btsync_files "$current" ;;
        folder) _btsync_folders "$current" ;;
        command) COMPREPLY=($(compgen -W "${_btsync_commands% help}" -- "$current")) ;;
    esac
    # The first name of a download may be a command.
    [[ $command || $names -gt 0 ]] || COMPREPLY+=($(compgen -W "$_btsync_commands" -- "$current"))
}

complete -F _btsync btsync
