# Completion of btsync for fish. tests/completion.rs holds it against the program's own help.
# A new option needs its line below its command; a new command its name in __btsync_commands, its line as an argument, and its
# options.

set -g __btsync_commands create info list magnet edit verify tracker help

# The command that the words before the cursor name; "download" where they name none.
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

# Whether no word but options came before the cursor.
function __btsync_first
    set -l words (commandline -opc)
    not string match -qv -- '-*' $words[2..-1]
end

# Torrent files, and folders: the way to them, or where a download goes.
function __btsync_torrents
    __fish_complete_suffix .torrent | string match -r -- '^.*(?:\.torrent|/)(?:\t.*)?$'
end

complete -c btsync -f

complete -c btsync -n __btsync_first -a create -d 'Make a torrent file of a file or folder'
complete -c btsync -n __btsync_first -a info -d 'Show what a torrent file holds'
complete -c btsync -n __btsync_first -a list -d 'Show the files of a torrent'
complete -c btsync -n __btsync_first -a magnet -d 'Print the magnet link of a torrent file'
complete -c btsync -n __btsync_first -a edit -d 'Change what a torrent file says'
complete -c btsync -n __btsync_first -a verify -d 'Say which files are bad or missing'
complete -c btsync -n __btsync_first -a tracker -d 'Be a tracker for a closed network'
complete -c btsync -n __btsync_first -a help -d 'Show the options of a command'

complete -c btsync -n '__btsync_in download' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in download' -l seed -d 'Give to others until stopped'
complete -c btsync -n '__btsync_in download' -l seed-time -x -d 'Give for so many minutes after the download'
complete -c btsync -n '__btsync_in download' -l seed-ratio -x -d 'Give until so many times the size is sent'
complete -c btsync -n '__btsync_in download' -l super-seed -d 'Give as the first seeder of a new torrent'
complete -c btsync -n '__btsync_in download' -s p -l listen-port -x -d 'The port to listen on, or a range A-B'
complete -c btsync -n '__btsync_in download' -l max-peers -x -d 'Connections at most'
complete -c btsync -n '__btsync_in download' -s i -l input-file -r -F -d 'A file that names torrents'
complete -c btsync -n '__btsync_in download' -l watch -x -a '(__fish_complete_directories)' -d 'Begin what appears in this folder'
complete -c btsync -n '__btsync_in download' -s j -l max-concurrent -x -d 'Downloads at once'
complete -c btsync -n '__btsync_in download' -l max-concurrent-downloads -x -d 'The same as --max-concurrent'
complete -c btsync -n '__btsync_in download' -l max-download-limit -x -d 'Bytes per second to receive at most'
complete -c btsync -n '__btsync_in download' -l max-overall-download-limit -x -d 'The same as --max-download-limit'
complete -c btsync -n '__btsync_in download' -s u -l max-upload-limit -x -d 'Bytes per second to send at most'
complete -c btsync -n '__btsync_in download' -l max-overall-upload-limit -x -d 'The same as --max-upload-limit'
complete -c btsync -n '__btsync_in download' -l dscp -x -a 'le none cs1 af11 ef' -d 'What routers are told of packets to peers'
complete -c btsync -n '__btsync_in download' -l encryption -x -a 'prefer require off' -d 'Disguise connections'
complete -c btsync -n '__btsync_in download' -l peer -x -d 'Call this peer'
complete -c btsync -n '__btsync_in download' -l bt-tracker -x -d 'Ask this tracker too'
complete -c btsync -n '__btsync_in download' -l bt-exclude-tracker -x -d 'Do not ask this tracker'
complete -c btsync -n '__btsync_in download' -l no-dht -d 'Do without the DHT'
complete -c btsync -n '__btsync_in download' -l no-lsd -d 'Do not look for peers in the local network'
complete -c btsync -n '__btsync_in download' -l no-pex -d 'No peers from peers'
complete -c btsync -n '__btsync_in download' -l dht-entry-point -x -d 'Enter the DHT through this node'
complete -c btsync -n '__btsync_in download' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'Use this interface or address alone'
complete -c btsync -n '__btsync_in download' -l bind -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'The same as --interface'
complete -c btsync -n '__btsync_in download' -s d -l dir -x -a '(__fish_complete_directories)' -d 'The folder for the files'
complete -c btsync -n '__btsync_in download' -l config -r -F -d 'Read options from this file'
complete -c btsync -n '__btsync_in download' -l conf-path -r -F -d 'The same as --config'
complete -c btsync -n '__btsync_in download' -l no-config -d 'Read options from no file'
complete -c btsync -n '__btsync_in download' -l show-config -d 'Print all options with their origins'
complete -c btsync -n '__btsync_in download' -s S -l list -d 'Show the files, download nothing'
complete -c btsync -n '__btsync_in download' -l show-files -d 'The same as --list'
complete -c btsync -n '__btsync_in download' -l select -x -d 'Download only these files'
complete -c btsync -n '__btsync_in download' -l select-file -x -d 'The same as --select'
complete -c btsync -n '__btsync_in download' -l exclude -x -d 'Do not download these files'
complete -c btsync -n '__btsync_in download' -l out -x -d 'Another place for a file'
complete -c btsync -n '__btsync_in download' -l index-out -x -d 'The same as --out'
complete -c btsync -n '__btsync_in download' -l sequential -d 'Fetch the pieces in order'
complete -c btsync -n '__btsync_in download' -l incomplete-suffix -x -d 'Behind the names of unfinished files'
complete -c btsync -n '__btsync_in download' -l allow-hidden -d 'Keep the dot that a name begins with'
complete -c btsync -n '__btsync_in download' -l first-and-last -d 'The ends of each file first'
complete -c btsync -n '__btsync_in download' -l file-allocation -x -a 'none sparse falloc' -d 'When files take their room'
complete -c btsync -n '__btsync_in download' -l overwrite -d 'Write over files that are in the way'
complete -c btsync -n '__btsync_in download' -l allow-overwrite -d 'The same as --overwrite'
complete -c btsync -n '__btsync_in download' -l fsync -d 'Wait until everything is on the disk'
complete -c btsync -n '__btsync_in download' -l save-torrent -r -F -d 'Keep the torrent of a magnet link'
complete -c btsync -n '__btsync_in download' -l json -d 'One event a line on standard output'
complete -c btsync -n '__btsync_in download' -l plain -d 'No live view'
complete -c btsync -n '__btsync_in download' -l verify -d 'Hash all that is on disk'
complete -c btsync -n '__btsync_in download' -l check-integrity -d 'The same as --verify'
complete -c btsync -n '__btsync_in download' -l stop-timeout -x -d 'Give up after so many seconds without a byte'
complete -c btsync -n '__btsync_in download' -l peer-id-prefix -x -d 'How our peer id begins'
complete -c btsync -n '__btsync_in download' -l user-agent -x -d 'What our client is called'
complete -c btsync -n '__btsync_in download' -l on-complete-always -d 'Run that command also where all was there from the start'
complete -c btsync -n '__btsync_in download' -l on-complete -x -d 'The same as --on-download-complete'
complete -c btsync -n '__btsync_in download' -l on-bt-download-complete -x -d 'The same as --on-download-complete'
complete -c btsync -n '__btsync_in download' -l on-download-complete -x -d 'A command for the shell once all is there'
complete -c btsync -n '__btsync_in download' -s v -l verbose -d 'Show debug logs'
complete -c btsync -n '__btsync_in download' -s q -l quiet -d 'Show errors only'
complete -c btsync -n '__btsync_in download' -s h -l help -d 'Show the options'
complete -c btsync -n '__btsync_in download' -s V -l version -d 'Print the version'

complete -c btsync -n '__btsync_in create' -F
complete -c btsync -n '__btsync_in create' -s o -l output -r -F -d 'The torrent file to write'
complete -c btsync -n '__btsync_in create' -s a -l announce -x -d 'A tracker; once more for another tier'
complete -c btsync -n '__btsync_in create' -l piece-length -x -a '16K 32K 64K 128K 256K 512K 1M 2M 4M 8M 16M' -d 'Bytes in a piece'
complete -c btsync -n '__btsync_in create' -l private -d 'Let peers come from these trackers only'
complete -c btsync -n '__btsync_in create' -l comment -x -d 'Words for whoever gets it'
complete -c btsync -n '__btsync_in create' -l web-seed -x -d 'The URL of a web seed'
complete -c btsync -n '__btsync_in create' -l source -x -d 'Make the info-hash another one, for another swarm'
complete -c btsync -n '__btsync_in create' -l exclude -x -d 'Leave out what this matches'
complete -c btsync -n '__btsync_in create' -l pad-files -d 'Let every file begin with a piece'
complete -c btsync -n '__btsync_in create' -l node -x -d 'A node through which to enter the DHT'
complete -c btsync -n '__btsync_in create' -l no-date -d 'Do not say when it was made'
complete -c btsync -n '__btsync_in create' -l force -d 'Replace the torrent file if it is there already'
complete -c btsync -n '__btsync_in create' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in info' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in info' -l json -d 'One JSON object instead of text'
complete -c btsync -n '__btsync_in info' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in list' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in list' -l select -x -d 'Select only these files'
complete -c btsync -n '__btsync_in list' -l select-file -x -d 'The same as --select'
complete -c btsync -n '__btsync_in list' -l exclude -x -d 'Do not select these files'
complete -c btsync -n '__btsync_in list' -l json -d 'One event instead of text'
complete -c btsync -n '__btsync_in list' -l peer -x -d 'Get the metadata from this peer'
complete -c btsync -n '__btsync_in list' -l stop-timeout -x -d 'Give up after so many seconds without a byte'
complete -c btsync -n '__btsync_in list' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in magnet' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in magnet' -l no-trackers -d 'Leave its trackers out'
complete -c btsync -n '__btsync_in magnet' -l peer -x -d 'A peer for the link to name'
complete -c btsync -n '__btsync_in magnet' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in edit' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in edit' -s o -l output -r -F -d 'Where to write it'
complete -c btsync -n '__btsync_in edit' -s a -l announce -x -d 'A tracker in place of all there are'
complete -c btsync -n '__btsync_in edit' -l add-announce -x -d 'A tracker beside those there are'
complete -c btsync -n '__btsync_in edit' -l remove-announce -x -d 'A tracker to take away'
complete -c btsync -n '__btsync_in edit' -l no-announce -d 'Take all trackers away'
complete -c btsync -n '__btsync_in edit' -l comment -x -d 'Words for whoever gets it'
complete -c btsync -n '__btsync_in edit' -l no-comment -d 'Take the comment away'
complete -c btsync -n '__btsync_in edit' -l web-seed -x -d 'A web seed in place of all there are'
complete -c btsync -n '__btsync_in edit' -l no-web-seed -d 'Take all web seeds away'
complete -c btsync -n '__btsync_in edit' -l force -d 'Replace the file of -o if it is there already'
complete -c btsync -n '__btsync_in edit' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in verify' -a '(__btsync_torrents)'
complete -c btsync -n '__btsync_in verify' -l select -x -d 'Look at these files only'
complete -c btsync -n '__btsync_in verify' -l select-file -x -d 'The same as --select'
complete -c btsync -n '__btsync_in verify' -l exclude -x -d 'But not at these'
complete -c btsync -n '__btsync_in verify' -l incomplete-suffix -x -d 'Behind the names of unfinished files'
complete -c btsync -n '__btsync_in verify' -l json -d 'One JSON object instead of lines'
complete -c btsync -n '__btsync_in verify' -s q -l quiet -d 'No bar, and no word when all is well'
complete -c btsync -n '__btsync_in verify' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in tracker' -l listen -x -d 'Address and port to listen on'
complete -c btsync -n '__btsync_in tracker' -l interval -x -d 'How often peers are asked to announce, in seconds'
complete -c btsync -n '__btsync_in tracker' -l help -d 'Show the options'

complete -c btsync -n '__btsync_in help' -a 'create info list magnet edit verify tracker'
