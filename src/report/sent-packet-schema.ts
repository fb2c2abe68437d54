import { Type, type Static } from '@sinclair/typebox';
import { closed, Count, Decimal, Hex, MAP_ENTRY } from './schema-parts.js';

/** A packet of a sequence that `prog diff` or `prog fuzz` found. */
export const SentPacketSchema = Type.Object(
  {
    packet: Hex('the frame as it is sent'),
    time: Decimal('ns; what bpf_ktime_get_ns returns'),
    ingressIfindex: Count('interface that it comes in by'),
    rxQueueIndex: Count('number of the queue'),
    egressIfindex: Count('interface that it goes out by; 0 but for programs of device maps'),
    cpu: Count('number of the CPU'),
    metadata: Hex('in front of the frame, from data_meta'),
    random: Type.Optional(
      Type.Array(Count('32 bits'), {
        description: 'what bpf_get_prandom_u32 returns first, second and so on, where a case says so',
      }),
    ),
    elements: Type.Array(
      Type.Object(
        {
          map: Type.String({ description: 'its name' }),
          ...MAP_ENTRY,
        },
        closed,
      ),
      { description: 'set in maps before it is sent, in this order' },
    ),
  },
  { ...closed, description: 'a packet, with all that the program may see of how it came' },
);
export type SentPacketDocument = Static<typeof SentPacketSchema>;

/** The verifier's no to a program that packets were to be looked for. */
export const RejectionSchema = Type.Object(
  {
    program: Type.String({ description: 'its name: the one that was asked for, or one that it tail-calls' }),
    verifier: Type.String({ description: 'who judged' }),
    code: Type.String({ description: 'stable, e.g. `packet-bounds`' }),
    reason: Type.String({ description: 'one sentence; the whole explanation is on stderr' }),
    insn: Type.Optional(Count('slot of the insn at fault; absent: the program as a whole')),
  },
  { ...closed, description: 'why a verifier refused the program' },
);
export type RejectionDocument = Static<typeof RejectionSchema>;
