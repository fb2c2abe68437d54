; Drops a packet where the random number is below 100, and says when. Of others a second number says when to look again.
.license GPL
.map seen array key=4 value=8 entries=1
.program draws
  call bpf_ktime_get_ns
  r6 = r0
  *(u32 *)(r10 -4) = 0
  r1 = map[seen]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r7 = r0
  call bpf_get_prandom_u32
  if r0 > 99 goto later
  *(u64 *)(r7 +0) = r6
  *(u32 *)(r10 -16) = 0x00000a64
  r1 = r10
  r1 += -16
  r2 = 3
  call bpf_trace_printk
  r0 = 1
  exit
later:
  call bpf_get_prandom_u32
  r6 += r0
  *(u64 *)(r7 +0) = r6
out:
  r0 = 2
  exit
