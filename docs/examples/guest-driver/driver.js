// A guest's driver in a process of its own: node driver.js SOCKET
// Creates a counter on the device, offloads a program that counts frames and drops them, and says what it counted.
import { ControlSocketClient, DeviceClient, RFC_2019 } from 'xdpbed';
import { assemble, encodeInsns } from 'xdpbed/bpf';

const control = await ControlSocketClient.connect(process.argv[2]);
const device = new DeviceClient(control, RFC_2019);
const ask = async (request) => {
  const answer = await device.request(request);
  if (!answer.ok) throw new Error(answer.message);
  return answer.value;
};

const counter = { mapType: 2, keySize: 4, valueSize: 8, maxEntries: 1, mapFlags: 0 }; // BPF_MAP_TYPE_ARRAY
const { handle } = await ask({ kind: 'create-map', ...counter });
const insns = assemble(
  `r1 = 0
   *(u32 *)(r10 - 4) = r1
   r1 = map[counter]
   r2 = r10
   r2 += -4
   call bpf_map_lookup_elem
   if r0 == 0 goto drop
   r1 = 1
   lock *(u64 *)(r0 + 0) += r1
   drop:
   r0 = 1
   exit`,
  { maps: new Map([['counter', handle]]) },
);
await ask({ kind: 'set-offload', insns: encodeInsns(insns), gplCompatible: true });
console.log('offloaded');

// The device resets when its driver is gone, so the program runs for as long as this process does.
for await (const _line of process.stdin) {
  const { value } = await ask({ kind: 'lookup-elem', handle, key: new Uint8Array(4), valueSize: 8 });
  console.log(`${new DataView(value.buffer, value.byteOffset).getBigUint64(0, true)} frames dropped`);
}
control.close();
