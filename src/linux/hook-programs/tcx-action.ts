/** What a tcx program returns (`enum tcx_action_base`, include/uapi/linux/bpf.h, and TC_ACT_REDIRECT of pkt_cls.h). */
export const TCX_ACTION = {
  /** The programs behind this one run, then the classic filters; with none of them the frame goes on. */
  TCX_NEXT: -1,
  TCX_PASS: 0,
  TCX_DROP: 2,
  TCX_REDIRECT: 7,
} as const;
