import { INVARIANTS } from '../../src/core/contract/attack.js';
import type { AttackEntry } from './attack-entry.js';
import { ATTACKS } from './attacks.js';

/**
 * What is written of the attacks outside of the code, from the one table: a testbed for each, one for all, and the page in
 * docs. documents.test.ts compares them with the files, and writes them with `vitest -u`.
 */
export function attackDocuments(): Record<string, string> {
  const testbeds = ATTACKS.map((entry) => [`testbeds/attacks/${entry.name}.testbed.yaml`, testbedOf(entry)]);
  return {
    'docs/attacks.md': page(),
    'testbeds/attacks/all.testbed.yaml': testbedOfSeveral(
      'attacks',
      'Every attack, on the device that a host would use, where it must fail, and on one that has the defects of RFC 2019’s handler, where it must succeed: else it shows nothing.',
      DEVICE_ATTACKS,
      CHECKS,
    ),
    'testbeds/attacks/rings.testbed.yaml': testbedOfSeveral(
      'rings',
      'Every attack on the ring, which is the transport’s: it must fail whichever device is behind it.',
      RING_ATTACKS,
      RING_CHECKS,
    ),
    ...(Object.fromEntries(testbeds) as Record<string, string>),
  };
}

const GENERATED =
  '# Written from plugins/attack-rfc-2019/attacks.ts: npx vitest run plugins/attack-rfc-2019/documents.test.ts -u';

const DEVICE_ATTACKS = ATTACKS.filter(({ target }) => target !== 'ring');
const RING_ATTACKS = ATTACKS.filter(({ target }) => target === 'ring');

/** Two guests behind a bridge: alice, who is honest, and mallory, whose nic has two queue pairs. */
const STAGE = `seed: 2019

# Part of what stops attacks. Tighter than the defaults, so that a guest comes to its limits soon.
policies:
  - use: helper-allow-list
  - use: quota
    config:
      per-guest: { maps: 16, map-memory: 1048576, entries: 4096, programs: 4, insns: 8192 }
      total: { maps: 64, map-memory: 4194304, entries: 16384, programs: 16, insns: 32768 }
  - use: program-limits
    config: { verdicts: [XDP_DROP, XDP_PASS], write-packet: false, insns-per-packet: 1000, stack: 256 }

host:
  case: bridge
  nics:
    eth0: { mac: 52:54:00:00:00:01 }
  taps:
    tap0: {}
    tap1: {}
  bridges:
    br0: { ports: [eth0, tap0, tap1] }
  verification: { milliseconds: 500, memory-mib: 128 }

guests:
  alice:
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:01:00
        ipv4: 192.0.2.10
        features: ALICE
  mallory:
    nics:
      eth0:
        tap: tap1
        mac: 52:54:00:00:01:01
        ipv4: 192.0.2.11
        queues: 2
        features: MALLORY
        attack: { use: rfc-2019, config: { name: NAME } }

workload: { use: udp-flood, config: { frames: 200, flows: 16 } }
`;

/** What each guest negotiates for an attack. */
function featuresFor({ protocol = 'rfc-2019' }: AttackEntry): { alice: string; mallory: string } {
  const offload = {
    'rfc-2019': ['VIRTIO_NET_F_XDP_OFFLOAD'],
    'bpf-offload': ['VIRTIO_NET_F_BPF_OFFLOAD'],
    none: [],
  };
  const common = [
    'VIRTIO_F_VERSION_1',
    'VIRTIO_F_INDIRECT_DESC',
    'VIRTIO_F_EVENT_IDX',
    'VIRTIO_NET_F_MAC',
    'VIRTIO_NET_F_CTRL_VQ',
  ];
  const list = (names: readonly string[]): string => `[${names.join(', ')}]`;
  return {
    alice: list([...common, ...offload[protocol === 'none' ? 'rfc-2019' : protocol]]),
    mallory: list([...common, 'VIRTIO_NET_F_MQ', ...offload[protocol]]),
  };
}

/** The stage, as an attack finds it. */
function stageFor(entry: AttackEntry): string {
  const { alice, mallory } = featuresFor(entry);
  return STAGE.replace('NAME', entry.name).replace('ALICE', alice).replace('MALLORY', mallory);
}

const DEVICES = `  device:
    guarded: { plugins.device.use: guarded }
    rfc-2019-naive: { plugins.device.use: rfc-2019-naive }
`;

const CHECKS = `checks:
  - kind: conservation
  - { kind: attacks, where: { device: guarded }, expect: fail }
  - { kind: attacks, where: { device: rfc-2019-naive }, expect: succeed }
`;

const RING_CHECKS = `checks:
  - kind: conservation
  - { kind: attacks, expect: fail }
`;

function testbedOf(entry: AttackEntry): string {
  const head = `# yaml-language-server: $schema=../../schemas/testbed.schema.json
#
${GENERATED}
version: 1
name: ${entry.name}
description: >-
${folded(entry.mustHold, 2)}
`;
  const does = folded(`The attack (${what(entry)}): ${entry.does}.`, 0).replaceAll(/^/gm, '# ');
  return `${head}${stageFor(entry)}
${does}
matrix:
${DEVICES}
${entry.target === 'ring' ? RING_CHECKS : CHECKS}`;
}

function testbedOfSeveral(
  name: string,
  description: string,
  entries: readonly AttackEntry[],
  checks: string,
): string {
  const negotiated = featuresFor(entries[0]!);
  const variants = entries.map((entry) => {
    const name = `guests.mallory.nics.eth0.attack.config.name: ${entry.name}`;
    const { alice, mallory } = featuresFor(entry);
    const lines = [
      ...(alice === negotiated.alice ? [] : [`guests.alice.nics.eth0.features: ${alice}`]),
      ...(mallory === negotiated.mallory ? [] : [`guests.mallory.nics.eth0.features: ${mallory}`]),
    ];
    if (lines.length === 0) return `    ${entry.name}: { ${name} }\n`;
    return `    ${entry.name}:\n${[name, ...lines].map((line) => `      ${line}\n`).join('')}`;
  });
  return `# yaml-language-server: $schema=../../schemas/testbed.schema.json
#
${GENERATED}
version: 1
name: ${name}
description: >-
${folded(description, 2)}
${stageFor(entries[0]!)}
matrix:
  attack:
${variants.join('')}${DEVICES}
${checks}`;
}

function page(): string {
  const rows = ATTACKS.map((entry) => {
    const testbed = `[${entry.name}](../testbeds/attacks/${entry.name}.testbed.yaml)`;
    const links = (paths: readonly string[]): string => paths.map(link).join(', ');
    return `| ${testbed} | ${entry.defect} | ${entry.does} | ${entry.aims.join(', ')} | ${links(entry.stoppedBy)} | ${links(entry.tests)} |`;
  });
  const reasons = ATTACKS.map(({ name, mustHold }) => `- **${name}**: ${mustHold}`);
  const invariants = Object.entries(INVARIANTS).map(([name, text]) => `| \`${name}\` | ${text} |`);
  return `<!-- Written from plugins/attack-rfc-2019/attacks.ts: npx vitest run plugins/attack-rfc-2019/documents.test.ts -u -->
# Attacks

\`\`\`sh
npx xdpbed run testbeds/attacks/all.testbed.yaml
\`\`\`

tries every attack on two devices: on \`guarded\`, the default, where it must fail, and on \`rfc-2019-naive\`, which has the defects of RFC
2019's handler in a pretend process, where it must succeed. To guests that negotiate protocol 2 that device speaks it as carelessly
(\`plugins/device-rfc-2019-naive/naive-protocol-2.ts\`). The run fails if one does not end as it is to. Attacks on the ring have a testbed
of their own, \`rings.testbed.yaml\`: the ring is the transport's, so they must fail whichever device is behind it; that they bite is shown
on a ring that believes everything (\`plugins/attack-rfc-2019/ring-attacks.test.ts\`).

\`mallory\` attacks, by raw commands and a raw ring in the memory of its control queue; \`alice\` is honest, has a map on the device and reads
it. Before, while and after that a judge looks at the host's side: what the device has, what is charged for, how \`alice\` fares; what only
the attacker can see, it reports. On \`guarded\` **everything** below must hold, whichever the attack; on the weak device an attack counts as
successful only if something breaks that it **goes for**. The policies of these testbeds are part of what stops attacks: without any
(\`--set 'policies=[]' --only device=guarded\`) five attacks succeed on \`guarded\` as well, and nothing limits what a guest holds but the 256 MiB that a
nic has in any case.

| what must hold | |
|---|---|
${invariants.join('\n')}

Bounds of the judge: 16 MiB of maps, BTF and commands under way, 256 maps and programs, and 6144 handles and pins for one guest, 256 KiB of a device's own log, the records that are kept of one guest.

## The attacks

A number is that of the defect: 1 \`map_fd\` as it comes, 2 results over the command, 3 \`buf_len\` read twice, 4 the sum wraps, 5 sizes
unchecked, 6 DELETE_ELEM falls through, 7 byte order, 8 nothing is freed by a reset, 9 no limits, 10 the first queue only. Attacks over
[protocol 2](spec/bpf-offload.md), and those without any protocol, name in words what a device must have done wrong.

| attack | defect | what is done | goes for | stopped by | tests |
|---|---|---|---|---|---|
${rows.join('\n')}

### What must hold, and why

${reasons.join('\n')}

## Commands and virtual time
Commands take no time in the model, but while \`command-flood\` is measured: then each takes 5 µs (\`host.command-microseconds\`) of the
device's one thread, and 0.24 ns for each byte of it and of the room for its answer. Measured were, through queue and endpoint on a machine of two
virtual cores that was busy otherwise, 5.4 to 5.9 µs for a lookup of 8 bytes and 37 µs for one of 64 KiB. What the ratio rests on is the order:
\`guarded\` carries out one command of each guest by turns; \`rfc-2019-naive\` goes on with a queue until it is empty, as
virtio_net_handle_ctrl of QEMU does, and it never is.

A command that is under way is not broken off. Beside a guest that floods with values of 64 KiB a quiet one may wait for up to 37 µs, which is
more than twice what it waits alone: the bound holds for floods of commands as short as its own.

## What is left out
- **Another guest's map in a program.** Parties have memories of their own, so the weak device cannot do it either. Handles in insns are
  those of the guest: \`src/core/offload/program-handles.ts\`, control-endpoint.attack.test.ts.
- **Programs that the verifier must reject** cannot succeed on the weak device, which asks the same verifier, as QEMU asked the host's kernel.
  They are part of \`programs-beyond-limits\`, which the host's policies decide.
- **Many loads**: what loads use up is the verifier's time (\`slow-verification\`), over either protocol; how many there may be in a second is
  \`rate-limit\`'s, which these testbeds do not have.
- **The size of a batch as a rate**: \`rate-limit\` takes a batch for one command. What one costs is bounded by \`max_batch\` and 512 KiB
  (\`batch-overruns\`), and what it may put into a map by what the map is charged for when it is made.
- **Tail calls under traffic** into a program that is replaced meanwhile: guests attack before there is traffic.
  \`src/core/offload/offload-interleaving.fuzz.test.ts\`.
`;
}

function what({ defect }: AttackEntry): string {
  return typeof defect === 'number' ? `defect ${defect}` : defect;
}

function link(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1).replace(/\.ts$/, '');
  return `[${name}](../${path})`;
}

/** Lines of no more than 110 characters. */
function folded(text: string, indent: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > 108) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map((each) => ' '.repeat(indent) + each).join('\n');
}
