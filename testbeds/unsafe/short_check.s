; The classic: 14 bytes are compared with data_end, 20 are read.
;   xdpbed prog verify testbeds/unsafe/short_check.s
.license GPL
.map counters array key=4 value=8 entries=256
.program short_check
  r2 = *(u32 *)(r1 +0)            ; data
  r3 = *(u32 *)(r1 +4)            ; data_end
  r4 = r2
  r4 += 14
  if r4 > r3 goto pass
  r5 = *(u8 *)(r2 +23)            ; the IPv4 protocol lies at 14 + 9
  *(u32 *)(r10 -4) = r5
  r1 = map[counters]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto pass
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
pass:
  r0 = 2
  exit
