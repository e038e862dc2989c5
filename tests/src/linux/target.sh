# What a consumer that is a target does first: serves the BTT on its NVDIMM by nvmet-tcp, at the address that its kernel's
# command line names, under names that never change.
address=$(sed -n 's/.*untorn_address=\([^ ]*\).*/\1/p' /proc/cmdline)
uuid=0b06833d-0000-4000-8000-000000000002
nqn=nqn.2014-08.org.nvmexpress:uuid:$uuid
ip link set lo up
ip address add "$address/24" dev eth0
ip link set eth0 up
while [ ! -b /dev/pmem0s ]; do sleep 0.01; done
mount -t configfs none /sys/kernel/config
cd /sys/kernel/config/nvmet || exit 1
mkdir "subsystems/$nqn" "subsystems/$nqn/namespaces/1" ports/1
echo 1 >"subsystems/$nqn/attr_allow_any_host"
echo /dev/pmem0s >"subsystems/$nqn/namespaces/1/device_path"
echo "$uuid" >"subsystems/$nqn/namespaces/1/device_uuid"
echo "$uuid" >"subsystems/$nqn/namespaces/1/device_nguid"
echo 1 >"subsystems/$nqn/namespaces/1/enable"
echo ipv4 >ports/1/addr_adrfam
echo tcp >ports/1/addr_trtype
echo "$address" >ports/1/addr_traddr
echo 4420 >ports/1/addr_trsvcid
ln -s "/sys/kernel/config/nvmet/subsystems/$nqn" "ports/1/subsystems/$nqn"
cd /
