#!/bin/busybox sh
# The first and only program of a guest: it does what the host says, a command at a time or
# several at once, and reports how each ended.
#
# Host to guest, a line: ID SECONDS SCRIPT, the script in base64. Guest to host: a line
# ID STATUS LENGTH, then so many bytes of output, both streams in order. The first line is
# "ready RELEASE UPTIME".
#
# Scripts run in dash: busybox's own shell prefers its built-in programs to the packages'.
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /root /mnt
/bin/busybox --install -s /bin 2>/run/install
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/shm /dev/pts /run/agent
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug
modprobe -a virtio_pci virtio_console

answer() {
    folder=/run/agent/$1
    mkdir -p "$folder"
    echo "$3" | base64 -d >"$folder/script"
    timeout -s KILL "$2" dash "$folder/script" >"$folder/output" 2>&1 </dev/null 3>&-
    status=$?
    (
        flock 9
        length=$(wc -c <"$folder/output")
        {
            echo "$1 $status $length"
            head -c "$length" "$folder/output"
        } >&3
    ) 9>/run/agent/lock
    rm -r "$folder"
}

tries=0
until port=$(grep -l '^agent$' /sys/class/virtio-ports/*/name 2>/dev/null); do
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        echo "<0>no port for the agent" >/dev/kmsg
        poweroff -f
    fi
    sleep 0.1
done
port=${port%/name}
exec 3<>"/dev/${port##*/}"
echo "ready $(uname -r) $(cut -d ' ' -f 1 /proc/uptime)" >&3
while :; do
    if read -r id seconds script <&3; then
        answer "$id" "$seconds" "$script" &
    else
        sleep 0.1
    fi
done
