#!/usr/bin/env bash
#: usage: ./run-qemu.sh [OPTION]...
#:
#: Boots untorn in QEMU on NVDIMMs made of files, and gives its admin console on the terminal. The first run installs
#: what is missing, builds the image and makes a blank NVDIMM file under target/. On the console, `help` lists the
#: commands, `poweroff` ends the run, and Ctrl-] pulls the plug.
#:
#: options:
set -euo pipefail
cd_from=$PWD
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
started=${EPOCHREALTIME/[.,]/} # microseconds; --timeout counts from here

say() { echo "run-qemu.sh: $*" >&2; }
# end STATUS MESSAGE...: 1 failed, 2 usage
end() {
    say "${*:2}"
    exit "$1"
}
usage() { end 2 "$* (--help lists the options)"; }

# bytes WHAT TEXT: a size such as 4096, 64M or 2T as bytes, into $bytes.
bytes() {
    local shift=0
    [[ $2 =~ ^([0-9]{1,16})([KMGT]?)$ ]] || usage "$1: '$2' is not a size like 4096, 64M or 2T"
    case ${BASH_REMATCH[2]} in K) shift=10 ;; M) shift=20 ;; G) shift=30 ;; T) shift=40 ;; esac
    bytes=$((10#${BASH_REMATCH[1]}))
    ((bytes <= 1 << 50 - shift)) || usage "$1: '$2' is more than a PC can address"
    bytes=$((bytes << shift))
}
number() { # number OPTION TEXT LEAST MOST
    [[ $2 =~ ^[0-9]{1,9}$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || usage "$1: '$2' is not a number from $3 to $4"
}

# ---- Options. The lines that begin with #: are the help, too.
nvdimms=() no_nvdimm='' cpus=2 memory=256M accel=tcg boot=pvh exec_given='' commands='' json='' vhost_user=() consumer_ram=''
admin='' hold='' timeout='' qemu_args=() build=1 dry_run=''
while [ $# -gt 0 ]; do
    option=$1 && shift
    case $option in
    --*=*) # --option=value is --option value
        set -- "${option#*=}" "$@"
        option=${option%%=*}
        case $option in --no-nvdimm | --json | --no-build | --dry-run | --help) usage "$option takes no value" ;; esac
        ;;
    esac
    case $option in
    --nvdimm | --cpus | --memory | --accel | --boot | --exec | --vhost-user | --consumer-ram | --admin | --hold | --timeout | \
        --qemu-arg)
        [ $# -gt 0 ] || usage "$option needs a value"
        ;;
    esac
    case $option in
    #:   --nvdimm FILE[,size=S][,label=S][,unarmed]
    #:                        an NVDIMM made of FILE; may be given several times. FILE is made, sparse, if it is absent.
    #:                        size is the whole file's, label area included (default: as large as the file is); label is
    #:                        the size of the label area at its end (at least 128K; default: none); unarmed: read-only.
    #:                        Default: one blank DIMM of 128M under target/, formatted by a run without --exec, and served
    #:                        at target/vhost.sock (with --admin target/admin.sock) unless --qemu-arg is given
    --nvdimm) nvdimms+=("$1") && shift ;;
    #:   --no-nvdimm          no NVDIMM at all
    --no-nvdimm) no_nvdimm=1 ;;
    #:   --cpus N             processors (default: 2)
    --cpus) number --cpus "$1" 1 255 && cpus=$1 && shift ;;
    #:   --memory S           RAM (default: 256M)
    --memory) memory=$1 && shift ;;
    #:   --accel tcg|kvm      who executes the processors' code (default: tcg, which works everywhere)
    --accel)
        case $1 in tcg | kvm) accel=$1 ;; *) usage "--accel: '$1' is neither tcg nor kvm" ;; esac
        shift
        ;;
    #:   --boot pvh|bios|uefi the way the image is started (default: pvh)
    --boot)
        case $1 in pvh | bios | uefi) boot=$1 ;; *) usage "--boot: '$1' is none of pvh, bios and uefi" ;; esac
        shift
        ;;
    #:   --exec 'CMD; CMD'    runs admin commands instead of giving the console: all of them, in order, also after one
    #:                        failed; then powers off. Only their replies go to stdout. Exits with the status of the first
    #:                        command that failed, else 0
    --exec) exec_given=1 commands=$1 && shift ;;
    #:   --json               with --exec: machine-mode replies, one JSON object a line
    --json) json=1 ;;
    #:   --vhost-user SOCKET[,dev=DEV][,ram=FILE,size=S]
    #:                        exports DEV (default: the first sector namespace) as a vhost-user-blk disk at SOCKET, for one
    #:                        consumer: a QEMU whose RAM of S is FILE. May be given several times: a disk and a consumer
    #:                        each; the same FILE is the same consumer. SOCKET appears once the disk's capacity is known
    --vhost-user) vhost_user+=("$1") && shift ;;
    #:   --consumer-ram FILE,size=S
    #:                        the RAM of the consumer of the one --vhost-user that names none (default: 512M in /dev/shm)
    --consumer-ram)
        [ -z "$consumer_ram" ] || usage '--consumer-ram is for one consumer: give others as --vhost-user SOCKET,ram=FILE,size=S'
        consumer_ram=$1 && shift
        ;;
    #:   --admin SOCKET       a socket for admin commands beside the console: untornctl --help tells how to ask there
    --admin) admin=$1 && shift ;;
    #:   --hold S             how long a consumer's requests wait for an appliance that is gone, in seconds (default: 30)
    --hold)
        [[ $1 =~ ^[0-9]{1,7}(\.[0-9]{1,6})?$ ]] || usage "--hold: '$1' is not a number of seconds"
        hold=$1 && shift
        ;;
    #:   --timeout S          a bound on the whole run in seconds, set-up and build included; exits 124 when it strikes
    --timeout)
        [[ $1 =~ ^[0-9]{1,7}(\.[0-9]{1,6})?$ ]] || usage "--timeout: '$1' is not a number of seconds"
        timeout=$1 && shift
        ;;
    #:   --qemu-arg ARG       one more argument for QEMU, after all of ours; may be given several times. Open file
    #:                        descriptors are passed on to QEMU
    --qemu-arg) qemu_args+=("$1") && shift ;;
    #:   --no-build           takes the image as it was built last
    --no-build) build='' ;;
    #:   --dry-run            prints QEMU's command line; installs, builds, makes and starts nothing
    --dry-run) dry_run=1 ;;
    #:   --help               this text
    --help | -h)
        sed -n 's/^ *#: \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    *) usage "unknown option '$option'" ;;
    esac
done
#:
#: Sizes are bytes, or a number with K, M, G or T. $QEMU names another QEMU than qemu-system-x86_64.
#:
#: exit status: 0 ok; 1 failed; 2 usage, or something that could not be installed; 3 not found; 4 media or metadata
#: damaged; 5 the appliance ended or went silent; 124 --timeout struck

[ -z "$no_nvdimm" ] || [ ${#nvdimms[@]} -eq 0 ] || usage '--nvdimm and --no-nvdimm exclude each other'
[ -z "$json" ] || [ -n "$exec_given" ] || usage '--json goes with --exec'
[ "$boot" = pvh ] || end 1 "--boot $boot comes with a later version: this one starts by pvh only"
[ -z "$consumer_ram" ] || [ ${#vhost_user[@]} -eq 1 ] || usage '--consumer-ram goes with one --vhost-user'
[ -z "$admin" ] || [ -z "$exec_given" ] || usage '--admin and --exec exclude each other: a script has no time for others'
bytes --memory "$memory"
memory_bytes=$bytes
((memory_bytes >= 32 << 20 && memory_bytes % (1 << 20) == 0)) ||
    usage "--memory: '$memory' is not a multiple of 1M from 32M up"

# ---- The DIMMs: their files, and what QEMU is told about them.
target=${CARGO_TARGET_DIR:-$top/target}
case $target in /*) ;; *) target=$cd_from/$target ;; esac
format_blank=''
if [ -z "$no_nvdimm" ] && [ ${#nvdimms[@]} -eq 0 ]; then
    # Ours to format, and only by a person's plain run: a script says what it wants. A size for the first run only.
    [ -n "$exec_given" ] || format_blank=1
    # Such a run serves it, too; one that puts devices of its own in the machine says itself what else it wants.
    # A socket's path has 107 bytes at most.
    if [ -z "$exec_given" ] && [ ${#vhost_user[@]} -eq 0 ] && [ ${#qemu_args[@]} -eq 0 ] && ((${#target} < 80)); then
        vhost_user=("$target/vhost.sock") admin=${admin:-$target/admin.sock}
    fi
    nvdimms=("$target/nvdimm0.img") && [ -s "${nvdimms[0]}" ] || nvdimms[0]+=,size=128M
    [[ $target != *,* ]] || usage "the target directory '$target' has a comma in its name: give a --nvdimm FILE elsewhere"
fi
files=() sizes=() dimm_args=() dimm_bytes=0
for nvdimm in "${nvdimms[@]}"; do
    IFS=, read -ra fields <<<"$nvdimm"
    file=${fields[0]-} size='' label='' unarmed=''
    [ -n "$file" ] || usage "--nvdimm: '$nvdimm' names no file"
    for field in "${fields[@]:1}"; do
        case $field in
        size=*) bytes "--nvdimm $file: size" "${field#*=}" && size=$bytes ;;
        label=*) bytes "--nvdimm $file: label" "${field#*=}" && label=$bytes ;;
        unarmed) unarmed=1 ;;
        *) usage "--nvdimm $file: '$field' is none of size=S, label=S and unarmed" ;;
        esac
    done
    if [ -f "$file" ] && [ -s "$file" ]; then
        there=$(stat -Lc %s "$file")
        [ "${size:=$there}" = "$there" ] ||
            usage "--nvdimm $file: the file has $there bytes, not size=$size, and is left as it is"
    else
        [ -n "$size" ] || usage "--nvdimm $file: there is no such file; with size=S it is made"
    fi
    ((size > 0 && size % 4096 == 0)) || usage "--nvdimm $file: $size bytes are not a multiple of 4096"
    if [ -n "$label" ]; then
        ((label >= 128 << 10 && label < size && label % 4096 == 0)) ||
            usage "--nvdimm $file: a label area of $label bytes: it takes 128K or more, a multiple of 4096, less than the file"
    fi
    n=${#files[@]}
    files+=("$file") sizes+=("$size")
    # QEMU aligns what it plugs in; a GiB for each makes room for that.
    dimm_bytes=$((dimm_bytes + ((size >> 30) + 1 << 30)))
    dimm_args+=(-object "memory-backend-file,id=nvdimm$n-file,share=on,mem-path=$file,size=$size")
    dimm_args+=(-device "nvdimm,id=nvdimm$n,memdev=nvdimm$n-file${label:+,label-size=$label}${unarmed:+,unarmed=on}")
done

# ---- The disks for other machines: a socket each, and a RAM file for each consumer.
qemu=${QEMU:-qemu-system-x86_64}
exports=() hints=() rams=() bar_bytes=0 control_fd='' export_args=() vhost_args=()
for export in "${vhost_user[@]}"; do
    IFS=, read -ra fields <<<"$export,$consumer_ram"
    socket=${fields[0]-} dev='' ram='' size=''
    [ -n "$socket" ] || usage "--vhost-user: '$export' names no socket"
    if [ -n "$consumer_ram" ]; then
        [[ $export != *,ram=* ]] || usage '--consumer-ram: --vhost-user has ram=FILE already'
        ram=${consumer_ram%%,*}
    fi
    for field in "${fields[@]:1}"; do
        case $field in
        dev=?*) dev=${field#*=} ;;
        ram=?*) ram=${field#*=} ;;
        size=*) bytes "--vhost-user $socket: size" "${field#*=}" && size=$bytes ;;
        "" | "$ram") ;;
        *) usage "--vhost-user $socket: '$field' is none of dev=DEV, ram=FILE and size=S" ;;
        esac
    done
    if [ -z "$ram" ] && [ -z "$size" ]; then
        ram=/dev/shm/untorn-$(id -u)-$(basename -- "$socket").ram size=$((512 << 20))
    fi
    [ -n "$ram" ] && [ -n "$size" ] || usage "--vhost-user $socket: a consumer's RAM takes both ram=FILE and size=S"
    ((size >= 1 << 20 && size % (1 << 20) == 0)) || usage "--vhost-user $socket: size: $size bytes are not a multiple of 1M"
    exports+=(--vhost-user "$socket${dev:+,dev=$dev},ram=$ram,size=$size")
    backend=memory-backend-file,id=mem,share=on,mem-path=$ram,size=$((size >> 20))M
    hint="a consumer: $qemu -smp 2 -m $((size >> 20))M -machine q35,memory-backend=mem -object $backend"
    hints+=("$hint -chardev socket,id=disk,path=$socket,reconnect=1 -device vhost-user-blk-pci,chardev=disk,disable-legacy=on")
    for n in "${!rams[@]}"; do
        [ "${rams[n]}" != "$ram" ] || continue 2 # another disk of the same consumer
    done
    rams+=("$ram")
    bar=1
    while ((bar < size + 4096)); do bar=$((bar * 2)); done
    bar_bytes=$((bar_bytes + bar))
done
[ -z "$hold" ] || [ ${#vhost_user[@]} -gt 0 ] || usage '--hold goes with --vhost-user'
((${#vhost_user[@]} <= 24)) || usage "--vhost-user: ${#vhost_user[@]} are more than 24"
if [ ${#rams[@]} -gt 0 ]; then
    # Numbers that nothing else has: untornctl puts its sockets there for QEMU.
    exec {control_fd}<>/dev/null
    export_args+=(--control-fd "$control_fd" ${hold:+--hold "$hold"})
    vhost_args=(-chardev "socket,id=untorn-control,fd=$control_fd" -serial chardev:untorn-control)
    for n in "${!rams[@]}"; do
        exec {ram_fd}<>/dev/null
        export_args+=(--ivshmem-fd "$ram_fd")
        # In slots 01 to 03, then their other functions: the slots from 04 on are left to others.
        address=$((1 + n % 3)).$((n / 3))
        ((${#rams[@]} <= 3)) || address+=,multifunction=on
        vhost_args+=(-chardev "socket,id=untorn-ram$n,fd=$ram_fd"
            -device "ivshmem-doorbell,chardev=untorn-ram$n,vectors=256,addr=$address")
    done
fi

# ---- The machine.
image=$target/release/untorn
machine=q35 ram=$((memory_bytes >> 20))M cpu=max smp=$cpus slots=${#files[@]} maxmem=$((memory_bytes + dimm_bytes))
if ((slots > 0)); then
    ((slots <= 256)) || usage "--nvdimm: $slots are more than QEMU's 256 slots"
    machine+=,nvdimm=on
    ram+=,slots=$slots,maxmem=$((maxmem >> 20))M
fi
# What is above 4 GiB: RAM, the DIMMs with a GiB of alignment each, 32 GiB for PCI, and there consumers' RAM, each aligned
# to its size. The 40 address bits that the processor has by default end at 1 TiB; from there on (12 GiB below is reserved)
# QEMU also starts only there.
top_byte=$(((4 << 30) + maxmem + (slots + 33 << 30) + 2 * bar_bytes))
if ((top_byte > 1012 << 30)); then
    top_byte=$((top_byte + (1 << 40))) bits=40
    while ((1 << bits < top_byte)); do bits=$((bits + 1)); done
    cpu+=,phys-bits=$bits
fi
# Under TCG a machine that can only ever have one processor leaves out its memory barriers: keep room for a second.
[ "$cpus" != 1 ] || smp=1,maxcpus=2
qemu_line=("$qemu" -nodefaults -machine "$machine" -accel "$accel" -cpu "$cpu" -smp "$smp" -m "$ram"
    -display none -serial stdio -device 'isa-debug-exit,iobase=0xf4,iosize=0x04'
    "${dimm_args[@]}" "${vhost_args[@]}" -kernel "$image" "${qemu_args[@]}")
if [ -n "$dry_run" ]; then
    line=''
    for word in "${qemu_line[@]}"; do
        [[ $word =~ ^[][:alnum:]_,.=/:+@%-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    echo "${line# }"
    exit 0
fi

# ---- Set-up and build, within the time that --timeout leaves.
# seconds_left: into $seconds_left; empty without --timeout.
seconds_left() {
    seconds_left=''
    [ -n "$timeout" ] || return 0
    local fraction=${timeout#*.}
    [ "$fraction" != "$timeout" ] || fraction=0
    fraction=${fraction}000000
    local left=$((10#${timeout%.*} * 1000000 + 10#${fraction:0:6} - (${EPOCHREALTIME/[.,]/} - started)))
    ((left > 0)) || end 124 "--timeout $timeout struck"
    seconds_left=$((left / 1000000)).$(printf %06d $((left % 1000000)))
}
# bounded COMMAND...: ends with this script, however that ends, and when the time is up.
bounded() {
    local status=0 bound=()
    seconds_left
    [ -z "$seconds_left" ] || bound=(timeout --foreground --kill-after=5 "$seconds_left")
    setpriv --pdeathsig TERM "${bound[@]}" "$@" </dev/null >&2 || status=$?
    [ -z "$timeout" ] || [ $status != 124 ] || end 124 "--timeout $timeout struck"
    return $status
}
bounded "$top/host/setup.sh" run || exit $?
if [ -n "${QEMU-}" ]; then command -v "$QEMU" >/dev/null || usage "\$QEMU names '$QEMU', which is no program"; fi
client=$target/release/untornctl
if [ -n "$build" ]; then
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    quiet=--quiet
    [ -f "$image" ] || quiet='' # the first build takes its time: let it show how far it is
    # One at a time: a feature that the host's half asks of a crate must not reach the image.
    for package in 'kernel --features image' host; do
        bounded env -C "$top" CARGO_TARGET_DIR="$target" cargo build $quiet --locked --release --package $package ||
            end 1 "building '$package' failed: see above"
    done
fi
for program in "$image" "$client"; do
    [ -f "$program" ] || end 1 "$program is not there: please run without --no-build"
done

# ---- The files exist from here on, and belong to one run at a time: the lock goes on to QEMU, and ends with it.
for n in "${!files[@]}"; do
    file=${files[n]}
    if [ ! -e "$file" ] || { [ -f "$file" ] && [ ! -s "$file" ]; }; then
        truncate -s "${sizes[n]}" -- "$file" || end 1 "--nvdimm $file: could not be made"
        say "made $file, a blank NVDIMM of ${sizes[n]} bytes"
    fi
    [ -r "$file" ] && [ -w "$file" ] || end 1 "--nvdimm $file: this user may not read and write it"
    exec {lock}<"$file"
    flock --wait 5 "$lock" || end 1 "--nvdimm $file: in use by another run, or given twice"
done

# untornctl takes this process's place: whoever ends run-qemu.sh ends it, and QEMU ends with it.
seconds_left
client_line=("$client")
if [ -n "$exec_given" ]; then client_line+=(exec ${json:+--json} --commands "$commands"); else
    client_line+=(console ${format_blank:+--format-blank})
    [ -z "$admin" ] || client_line+=(--admin "$admin")
    for hint in "${hints[@]}"; do say "$hint"; done
fi
exec "${client_line[@]}" ${seconds_left:+--timeout "$seconds_left"} "${exports[@]}" "${export_args[@]}" -- "${qemu_line[@]}"
