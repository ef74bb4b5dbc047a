# Completion of btsync for fish.
# Generated from src/cli/options by `make docs`: do not edit. The functions are in src/cli/options/generated/btsync.fish.in.

set -g __btsync_commands create info list magnet edit verify tracker serve dht doctor help

# The command that the words before the cursor name; "download" if they name none.
function __btsync_command
    set -l words (commandline -opc)
    for word in $words[2..-1]
        string match -q -- '-*' $word; and continue
        contains -- $word $__btsync_commands; and echo $word; and return
        break
    end
    echo download
end

function __btsync_in
    test (__btsync_command) = $argv[1]
end

# Whether only options came before the cursor.
function __btsync_first
    set -l words (commandline -opc)
    not string match -qv -- '-*' $words[2..-1]
end

# Torrent files, and folders: to look for torrent files in, or to download into.
function __btsync_torrents
    __fish_complete_suffix .torrent | string match -r -- '^.*(?:\.torrent|/)(?:\t.*)?$'
end

complete -c btsync -f

complete -c btsync -n __btsync_first -a create -d 'create a torrent file from a file or folder'
complete -c btsync -n __btsync_first -a info -d 'show the contents of a torrent file'
complete -c btsync -n __btsync_first -a list -d 'list the files of a torrent with numbers, sizes and selection'
complete -c btsync -n __btsync_first -a magnet -d 'print the magnet link of a torrent file'
complete -c btsync -n __btsync_first -a edit -d 'edit trackers, web seeds and comment of a torrent file'
complete -c btsync -n __btsync_first -a verify -d 'report which files of a torrent are damaged or missing'
complete -c btsync -n __btsync_first -a tracker -d 'run a small HTTP and UDP tracker until stopped'
complete -c btsync -n __btsync_first -a serve -d 'run many torrents as a service'
complete -c btsync -n __btsync_first -a dht -d 'get a value from the DHT or store one there (BEP 44)'
complete -c btsync -n __btsync_first -a doctor -d 'report what works on this machine and in its network'
complete -c btsync -n __btsync_first -a help -d 'show the options of a command'

complete -c btsync -n '__btsync_in download' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in download' -s d -l dir -x -a '(__fish_complete_directories)' -d 'save the files in this folder'
complete -c btsync -n '__btsync_in download' -s S -l list -d 'list the files with numbers, sizes and selection'
complete -c btsync -n '__btsync_in download' -l show-files -d 'same as --list'
complete -c btsync -n '__btsync_in download' -l select -x -d 'download only these files'
complete -c btsync -n '__btsync_in download' -l select-file -x -d 'same as --select'
complete -c btsync -n '__btsync_in download' -l exclude -x -d 'do not download these files'
complete -c btsync -n '__btsync_in download' -l out -x -d 'rename a file: save the file with this number as PATH'
complete -c btsync -n '__btsync_in download' -l index-out -x -d 'same as --out'
complete -c btsync -n '__btsync_in download' -l sequential -d 'download the pieces in order'
complete -c btsync -n '__btsync_in download' -l first-and-last -d 'download the first and last piece of each file first'
complete -c btsync -n '__btsync_in download' -l file-allocation -x -a 'none sparse falloc' -d 'when to allocate disk space'
complete -c btsync -n '__btsync_in download' -l incomplete-suffix -x -a '.part' -d 'append this suffix to file names until the download is complete'
complete -c btsync -n '__btsync_in download' -l allow-hidden -d 'keep a dot at the start of the torrent\'s name'
complete -c btsync -n '__btsync_in download' -l overwrite -d 'overwrite existing files that btsync did not create'
complete -c btsync -n '__btsync_in download' -l allow-overwrite -d 'same as --overwrite'
complete -c btsync -n '__btsync_in download' -l fsync -d 'wait until the disk has all files before exiting with code 0'
complete -c btsync -n '__btsync_in download' -l verify -d 'hash all data on disk'
complete -c btsync -n '__btsync_in download' -l check-integrity -d 'same as --verify'
complete -c btsync -n '__btsync_in download' -l save-torrent -r -F -d 'save the torrent file of a magnet link or URL in this file or folder'
complete -c btsync -n '__btsync_in download' -l seed -d 'keep seeding until stopped'
complete -c btsync -n '__btsync_in download' -l seed-time -x -d 'seed for MIN minutes after the download'
complete -c btsync -n '__btsync_in download' -l seed-ratio -x -d 'seed until R times the size has been uploaded'
complete -c btsync -n '__btsync_in download' -l super-seed -d 'show each peer only a few pieces at a time'
complete -c btsync -n '__btsync_in download' -s p -l listen-port -x -d 'listen on this port, or on the first free port of a range A-B'
complete -c btsync -n '__btsync_in download' -l max-peers -x -d 'allow at most N connections for all torrents together'
complete -c btsync -n '__btsync_in download' -l max-download-limit -x -d 'limit the download rate to R bytes per second'
complete -c btsync -n '__btsync_in download' -l max-overall-download-limit -x -d 'same as --max-download-limit'
complete -c btsync -n '__btsync_in download' -s u -l max-upload-limit -x -d 'limit the upload rate to R bytes per second'
complete -c btsync -n '__btsync_in download' -l max-overall-upload-limit -x -d 'same as --max-upload-limit'
complete -c btsync -n '__btsync_in download' -l encryption -x -a 'allow require off' -d 'encrypt connections to peers'
complete -c btsync -n '__btsync_in download' -l dscp -x -a 'le none cs1 af11 ef' -d 'mark packets to peers with this DSCP class'
complete -c btsync -n '__btsync_in download' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'use only this network interface or local address'
complete -c btsync -n '__btsync_in download' -l bind -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'same as --interface'
complete -c btsync -n '__btsync_in download' -l proxy -x -a 'socks5:// socks4a:// http://' -d 'connect through this proxy only'
complete -c btsync -n '__btsync_in download' -l anonymous -d 'do not send btsync\'s name and version or this machine\'s addresses'
complete -c btsync -n '__btsync_in download' -l port-mapping -d 'request port forwarding from the router at once, even with --interface'
complete -c btsync -n '__btsync_in download' -l no-port-mapping -d 'do not request port forwarding from the router'
complete -c btsync -n '__btsync_in download' -l block-list -r -F -d 'do not connect to the addresses in this block list'
complete -c btsync -n '__btsync_in download' -l peer-id-prefix -x -d 'start the peer ID with these eight characters'
complete -c btsync -n '__btsync_in download' -l user-agent -x -d 'send this client name in HTTP requests and to peers'
complete -c btsync -n '__btsync_in download' -l peer -x -d 'connect to this peer'
complete -c btsync -n '__btsync_in download' -l bt-tracker -x -d 'announce to this tracker too'
complete -c btsync -n '__btsync_in download' -l bt-exclude-tracker -x -d 'do not announce to this tracker of the torrent'
complete -c btsync -n '__btsync_in download' -l web-seed -x -d 'also download from this web seed'
complete -c btsync -n '__btsync_in download' -l no-web-seeds -d 'do not use the web seeds that the torrent or magnet link names'
complete -c btsync -n '__btsync_in download' -l no-dht -d 'do not use the DHT'
complete -c btsync -n '__btsync_in download' -l dht-entry-point -x -d 'also join the DHT through this node'
complete -c btsync -n '__btsync_in download' -l no-lsd -d 'do not look for peers in the local network'
complete -c btsync -n '__btsync_in download' -l no-pex -d 'do not exchange peer addresses with connected peers'
complete -c btsync -n '__btsync_in download' -s i -l input-file -r -F -d 'also download the torrents listed in this file'
complete -c btsync -n '__btsync_in download' -s j -l max-concurrent -x -d 'download at most N torrents at once'
complete -c btsync -n '__btsync_in download' -l max-concurrent-downloads -x -d 'same as --max-concurrent'
complete -c btsync -n '__btsync_in download' -l watch -x -a '(__fish_complete_directories)' -d 'start each .torrent and .magnet file in this folder'
complete -c btsync -n '__btsync_in download' -l json -d 'write events for programs to standard output'
complete -c btsync -n '__btsync_in download' -l plain -d 'print plain lines instead of the screen'
complete -c btsync -n '__btsync_in download' -l web -d 'show the torrents of this run in a browser'
complete -c btsync -n '__btsync_in download' -l web-listen -x -d 'the same as --web, on this loopback address and port or unix:PATH'
complete -c btsync -n '__btsync_in download' -s q -l quiet -d 'print errors only'
complete -c btsync -n '__btsync_in download' -s v -l verbose -d 'print debug logs'
complete -c btsync -n '__btsync_in download' -l stop-timeout -x -d 'give up if no data arrives for S seconds'
complete -c btsync -n '__btsync_in download' -l on-download-complete -x -d 'run this shell command when a download is complete'
complete -c btsync -n '__btsync_in download' -l on-complete -x -d 'same as --on-download-complete'
complete -c btsync -n '__btsync_in download' -l on-bt-download-complete -x -d 'same as --on-download-complete'
complete -c btsync -n '__btsync_in download' -l on-complete-always -d 'also run the completion command if all data was complete at the start'
complete -c btsync -n '__btsync_in download' -l config -r -F -d 'read options from this file'
complete -c btsync -n '__btsync_in download' -l conf-path -r -F -d 'same as --config'
complete -c btsync -n '__btsync_in download' -l no-config -d 'read no configuration file'
complete -c btsync -n '__btsync_in download' -l show-config -d 'print all options with their values and origins'
complete -c btsync -n '__btsync_in download' -s h -l help -d 'show the most common options'
complete -c btsync -n '__btsync_in download' -s V -l version -d 'print the version'

complete -c btsync -n '__btsync_in create' -F
complete -c btsync -n '__btsync_in create' -s o -l output -r -F -d 'write this torrent file'
complete -c btsync -n '__btsync_in create' -s a -l announce -x -d 'add this tracker'
complete -c btsync -n '__btsync_in create' -l piece-length -x -a '16K 32K 64K 128K 256K 512K 1M 2M 4M 8M 16M' -d 'the piece length, a power of two such as 256K or 1M'
complete -c btsync -n '__btsync_in create' -l private -d 'let clients find peers through the trackers only'
complete -c btsync -n '__btsync_in create' -l comment -x -d 'add a comment'
complete -c btsync -n '__btsync_in create' -l web-seed -x -d 'add the URL of a web seed'
complete -c btsync -n '__btsync_in create' -l source -x -d 'add a tag that changes the info-hash'
complete -c btsync -n '__btsync_in create' -l exclude -x -d 'leave out files that match'
complete -c btsync -n '__btsync_in create' -l pad-files -d 'align every file to a piece boundary with padding files'
complete -c btsync -n '__btsync_in create' -l node -x -d 'add a DHT node'
complete -c btsync -n '__btsync_in create' -l no-date -d 'omit the creation date'
complete -c btsync -n '__btsync_in create' -l force -d 'overwrite the torrent file if it exists'
complete -c btsync -n '__btsync_in create' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in info' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in info' -l json -d 'print one JSON object instead of text'
complete -c btsync -n '__btsync_in info' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in list' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in list' -l select -x -d 'select these files'
complete -c btsync -n '__btsync_in list' -l select-file -x -d 'same as --select'
complete -c btsync -n '__btsync_in list' -l exclude -x -d 'do not select these files'
complete -c btsync -n '__btsync_in list' -l json -d 'print one event instead of text'
complete -c btsync -n '__btsync_in list' -l peer -x -d 'download the metadata of a magnet link from this peer'
complete -c btsync -n '__btsync_in list' -l stop-timeout -x -d 'give up if no data arrives for S seconds'
complete -c btsync -n '__btsync_in list' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in magnet' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in magnet' -l no-trackers -d 'leave the trackers out of the link'
complete -c btsync -n '__btsync_in magnet' -l peer -x -d 'add this peer to the link'
complete -c btsync -n '__btsync_in magnet' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in edit' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in edit' -s o -l output -r -F -d 'write to this file'
complete -c btsync -n '__btsync_in edit' -s a -l announce -x -d 'replace all trackers with this one'
complete -c btsync -n '__btsync_in edit' -l add-announce -x -d 'add this tracker'
complete -c btsync -n '__btsync_in edit' -l remove-announce -x -d 'remove this tracker'
complete -c btsync -n '__btsync_in edit' -l no-announce -d 'remove all trackers'
complete -c btsync -n '__btsync_in edit' -l comment -x -d 'set the comment'
complete -c btsync -n '__btsync_in edit' -l no-comment -d 'remove the comment'
complete -c btsync -n '__btsync_in edit' -l web-seed -x -d 'replace all web seeds with this one'
complete -c btsync -n '__btsync_in edit' -l no-web-seed -d 'remove all web seeds'
complete -c btsync -n '__btsync_in edit' -l force -d 'overwrite the file of -o if it exists'
complete -c btsync -n '__btsync_in edit' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in verify' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in verify' -l select -x -d 'check only these files'
complete -c btsync -n '__btsync_in verify' -l select-file -x -d 'same as --select'
complete -c btsync -n '__btsync_in verify' -l exclude -x -d 'do not check these files'
complete -c btsync -n '__btsync_in verify' -l incomplete-suffix -x -a '.part' -d 'also look for files with this suffix'
complete -c btsync -n '__btsync_in verify' -l json -d 'print one JSON object instead of lines'
complete -c btsync -n '__btsync_in verify' -s q -l quiet -d 'show no progress bar'
complete -c btsync -n '__btsync_in verify' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in tracker' -l listen -x -d 'listen on this address and port'
complete -c btsync -n '__btsync_in tracker' -l interval -x -d 'ask peers to announce every SECONDS seconds'
complete -c btsync -n '__btsync_in tracker' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in serve' -s d -l dir -x -a '(__fish_complete_directories)' -d 'download into this folder'
complete -c btsync -n '__btsync_in serve' -l allow-dir -x -a '(__fish_complete_directories)' -d 'allow downloads below this folder too'
complete -c btsync -n '__btsync_in serve' -l web-listen -x -d 'serve the page on this address and port, or on unix:PATH'
complete -c btsync -n '__btsync_in serve' -l listen -x -d 'same as --web-listen'
complete -c btsync -n '__btsync_in serve' -l state-dir -x -a '(__fish_complete_directories)' -d 'keep the torrents, the settings and the resume data in this folder'
complete -c btsync -n '__btsync_in serve' -l state -x -a '(__fish_complete_directories)' -d 'same as --state-dir'
complete -c btsync -n '__btsync_in serve' -l watch -x -a '(__fish_complete_directories)' -d 'add the .torrent and .magnet files that appear in this folder'
complete -c btsync -n '__btsync_in serve' -l peer-port -x -d 'listen for peers on this port'
complete -c btsync -n '__btsync_in serve' -l port-mapping -d 'request port forwarding even if this machine has a public address'
complete -c btsync -n '__btsync_in serve' -l no-port-mapping -d 'do not request port forwarding from the router'
complete -c btsync -n '__btsync_in serve' -l proxy -x -a 'socks5:// socks4a:// http://' -d 'connect through this proxy only'
complete -c btsync -n '__btsync_in serve' -l anonymous -d 'do not send btsync\'s name and version or this machine\'s addresses'
complete -c btsync -n '__btsync_in serve' -l no-web-seeds -d 'do not use the web seeds that torrents and magnet links name'
complete -c btsync -n '__btsync_in serve' -l block-list -r -F -d 'do not connect to the addresses in this block list'
complete -c btsync -n '__btsync_in serve' -l import-transmission -x -a '(__fish_complete_directories)' -d 'import the torrents from Transmission\'s configuration folder and exit'
complete -c btsync -n '__btsync_in serve' -l import-qbittorrent -x -a '(__fish_complete_directories)' -d 'import the torrents from qBittorrent\'s folder BT_backup and exit'
complete -c btsync -n '__btsync_in serve' -l set-password -x -d 'read a password from standard input, save it for this user and exit'
complete -c btsync -n '__btsync_in serve' -l password-file -r -F -d 'read user and password from this file, as USER:PASSWORD'
complete -c btsync -n '__btsync_in serve' -l web-host -x -d 'accept requests for this host name too'
complete -c btsync -n '__btsync_in serve' -l web-prefix -x -d 'serve the page below this path'
complete -c btsync -n '__btsync_in serve' -l metrics -d 'serve metrics for Prometheus at /metrics'
complete -c btsync -n '__btsync_in serve' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in dht' -l salt -x -d 'tell this value of the author from others'
complete -c btsync -n '__btsync_in dht' -l value -r -F -d 'store the contents of this file'
complete -c btsync -n '__btsync_in dht' -l key -r -F -d 'sign the value with the private key in this file'
complete -c btsync -n '__btsync_in dht' -l wait -x -d 'give up after SECONDS seconds'
complete -c btsync -n '__btsync_in dht' -s p -l listen-port -x -d 'use this port, or the first free port of a range A-B'
complete -c btsync -n '__btsync_in dht' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'use only this network interface or local address'
complete -c btsync -n '__btsync_in dht' -l bind -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'same as --interface'
complete -c btsync -n '__btsync_in dht' -l proxy -x -a 'socks5:// socks4a:// http://' -d 'use this proxy'
complete -c btsync -n '__btsync_in dht' -l dht-entry-point -x -d 'also join the DHT through this node'
complete -c btsync -n '__btsync_in dht' -l config -r -F -d 'read options from this file'
complete -c btsync -n '__btsync_in dht' -l conf-path -r -F -d 'same as --config'
complete -c btsync -n '__btsync_in dht' -l no-config -d 'read no configuration file'
complete -c btsync -n '__btsync_in dht' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in doctor' -l wait -x -d 'wait at most SECONDS for the router, the DHT and incoming connections'
complete -c btsync -n '__btsync_in doctor' -l json -d 'print one JSON object for each check'
complete -c btsync -n '__btsync_in doctor' -s p -l listen-port -x -d 'check this port, or the first free port of a range A-B'
complete -c btsync -n '__btsync_in doctor' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'use only this network interface or local address'
complete -c btsync -n '__btsync_in doctor' -l bind -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'same as --interface'
complete -c btsync -n '__btsync_in doctor' -l proxy -x -a 'socks5:// socks4a:// http://' -d 'check this proxy'
complete -c btsync -n '__btsync_in doctor' -l port-mapping -d 'request port forwarding even with --interface or a public address'
complete -c btsync -n '__btsync_in doctor' -l no-port-mapping -d 'do not request port forwarding from the router'
complete -c btsync -n '__btsync_in doctor' -l no-dht -d 'do not use the DHT'
complete -c btsync -n '__btsync_in doctor' -l dht-entry-point -x -d 'also join the DHT through this node'
complete -c btsync -n '__btsync_in doctor' -l config -r -F -d 'read options from this file'
complete -c btsync -n '__btsync_in doctor' -l conf-path -r -F -d 'same as --config'
complete -c btsync -n '__btsync_in doctor' -l no-config -d 'read no configuration file'
complete -c btsync -n '__btsync_in doctor' -s h -l help -d 'show the options of this command'

complete -c btsync -n '__btsync_in help' -a 'create info list magnet edit verify tracker serve dht doctor'
