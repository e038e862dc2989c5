#!/bin/busybox sh
# Process 1 of a consumer: runs each line that comes by the first serial port, and answers with what it prints and, in a
# line of its own, the byte RS and its exit status. What is to go on in between is put in the background.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in /modules/*.ko; do insmod "$module" || echo "$module" >/dev/ttyS1; done
[ ! -f /prepare ] || . /prepare
stty -F /dev/ttyS0 raw -echo
exec </dev/ttyS0 >/dev/ttyS0 2>&1
printf '\0360\n'
# Not by the shell's own `read`: what it has of a line is gone when one of its children ends just then. (`head` may take
# more than a line, but none comes before the answer to the last one.)
while line=$(head -n 1); do
    (eval "$line")
    printf '\n\036%s\n' $?
done
