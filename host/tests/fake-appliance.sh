#!/bin/sh
# Speaks the appliance's serial protocol, as far as the tests of its clients need it. $1 says how it misbehaves.
exit_code() { printf '\036%s\r\n' "$1"; }
reply() { # reply TEXT-LINES EXIT-CODE JSON
    case $mode in
    text) printf '%s\r\n' "$1" && exit_code "$2" ;;
    json) printf '%s\r\n' "$3" ;;
    console) printf '%s\r\n' "$1" ;;
    esac
}
boot() {
    mode=console
    printf 'untorn 0.0.0\r\nready in 7 ms\r\n\r\nuntorn> '
}
case ${1-} in
dies) printf 'untorn 0.0.0\r\nno memory' && exit 3 ;;
panics-at-boot) printf 'untorn 0.0.0\r\npanic at kernel/src/main.rs:7: no CPU\r\n  at 0x1234\r\n' && exit 35 ;;
silent) exec sleep 100 ;;
esac
esc=$(printf '\033') half=''
boot
end_beside() { [ -z "$beside" ] || { printf '\033\\' && mode=console; }; }
serve_console() {
    while IFS= read -r line; do
        # A request beside a person is a control string within what the person types.
        case $line in
        *"$esc"_*) beside=json ;;
        *"$esc"^*) beside=text ;;
        *) beside='' ;;
        esac
        if [ -n "$beside" ]; then
            half=$half${line%%"$esc"*} line=${line#*"$esc"?} mode=$beside
            printf '\033_'
            # A numbered request has a numbered reply, unless the number was lost on its way.
            case $line in
            '#'[0-9]*' lost') line=lost ;;
            '#'[0-9]*' '*) printf '%s ' "${line%% *}" && line=${line#* } ;;
            esac
        else
            line=$half$line half=''
        fi
        [ "$mode" != console ] || printf '%s\r\n' "$line"
        # An object without more is its command; a request may have a number of its own.
        case $line in
        '{"command":"'[a-z]*'"}') line=${line#*:?} && line=${line%??} ;;
        '#7 '*) line=${line#* } ;;
        esac
        case $line in
        'mode text') mode=text && exit_code 0 ;;
        'mode json') mode=json && printf '{"ok":true,"mode":"json"}\r\n' ;;
        'mode console') reply '' 0 '{"ok":true,"mode":"console"}' && mode=console ;;
        poweroff)
            reply off 0 '{"ok":true}'
            end_beside
            [ "${1-}" != will-not-end ] || exec sleep 100
            exit 0
            ;;
        reboot)
            reply rebooting 0 '{"ok":true}' && end_beside
            # A loader in between takes keys for its own.
            [ "${1-}" != loader ] || { printf 'loading\r\n' && [ -z "$(timeout 2 head -c 1)" ] || printf 'a key: the menu\r\n'; }
            boot && continue
            ;;
        'list -N') reply none 0 "${FAKE_LIST-}" ;;
        create-namespace*) echo "$line" >&2 && reply made 0 '{"ok":true}' ;;
        missing) reply 'error: no such thing' 3 '{"ok":false,"error":{"code":"not-found","message":"no such thing"}}' ;;
        damaged) reply 'bad map' 4 '{"ok":true,"dev":"namespace0.0","exit":4}' ;;
        lost) reply 'error (failed): bytes were lost' 1 '{"ok":false,"error":{"code":"failed","message":"bytes were lost"}}' ;;
        strange) reply 'error: ?' 1 '{"ok":false,"error":{"code":"one of tomorrow","message":"?"}}' ;;
        panic) printf 'panic at btt/src/map.rs:1: out of bounds\r\n' && exit 35 ;;
        slow) sleep "${FAKE_SLOW-2}" && reply done 0 '{"ok":true}' ;;
        long) reply "$(head -c 300000 /dev/zero | tr '\0' x)" 0 '{"ok":true}' ;;
        log) printf 'a line that is no reply\r\n' ;;
        *) reply "$(printf 'two lines\nfor %s' "$line")" 0 "{\"ok\":true,\"line\":\"$line\"}" ;;
        esac
        if [ -n "$beside" ]; then end_beside; elif [ "$mode" = console ]; then printf 'untorn> '; fi
    done
}
# Its admin port, descriptor 9: the same, but each reply tells that it came this way.
serve_port() {
    while IFS= read -r line; do
        begin='' end=''
        case $line in "$esc"[_^]*)
            line=${line#"$esc"?} end=$esc'\'
            begin=${esc}_${line%% *}' ' line=${line#* }
            ;;
        esac
        case $line in
        panic) printf 'panic at btt/src/map.rs:2: by the port\r\n' >&7 && end_with 35 ;;
        closed) return ;;
        'mode text') printf '\036%s\n' 0 ;;
        *) printf '%s{"ok":true,"by":"port","line":"%s"}\n%s' "$begin" "$line" "$end" ;;
        esac
        [ "$line" != poweroff ] || end_with 0
    done
}
end_with() { kill "$console" && exit "$1"; }
case ${1-} in
port)
    exec 7>&1 8<&0
    { exec 9<&- && serve_console "$@" <&8; } &
    console=$!
    serve_port <&9 >&9
    exec 9<&-
    wait "$console"
    exit
    ;;
port-is-closed) exec 9<&- ;;
esac
serve_console "$@"
# At the end of its input a machine goes on.
exec sleep 100
