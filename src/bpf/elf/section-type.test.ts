import { expect, it } from 'vitest';
import { sectionType } from './section-type.js';

it.each([
  ['xdp', 6, 'BPF_XDP', false],
  ['xdp/anything', 6, 'BPF_XDP', false],
  ['xdp.frags', 6, 'BPF_XDP', true],
  ['xdp.frags/x', 6, 'BPF_XDP', true],
  ['xdp/devmap', 6, 'BPF_XDP_DEVMAP', false],
  ['xdp.frags/devmap', 6, 'BPF_XDP_DEVMAP', true],
  ['xdp/cpumap', 6, 'BPF_XDP_CPUMAP', false],
  ['xdp.frags/cpumap', 6, 'BPF_XDP_CPUMAP', true],
  ['xdp_devmap/egress', 6, 'BPF_XDP_DEVMAP', false],
  ['xdp_cpumap', 6, 'BPF_XDP_CPUMAP', false],
  ['xdp_redirect', 6, 'BPF_XDP', false],
  ['xdp1', 6, 'BPF_XDP', false],
  ['?xdp', 6, 'BPF_XDP', false],
  ['freplace/prog0', 28, 'BPF_XDP', false],
  ['fentry/func', 26, 'BPF_XDP', false],
  ['kprobe/do_exit', 2, 'BPF_XDP', false],
  ['cgroup/connect4', 18, 'BPF_XDP', false],
  ['tc', 3, 'BPF_XDP', false],
  ['prog', 0, 'BPF_XDP', false],
  ['2/0', 0, 'BPF_XDP', false],
])('section %s is of type %i, %s, frags %s', (name, type, attachType, frags) => {
  expect(sectionType(name)).toEqual({ type, attachType, frags });
});
