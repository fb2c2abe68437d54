/**
 * The layer rules of docs/architecture.md, proved in CI.
 * A rule here is the only place where a layer is defined; change it together with that page.
 */
const PURE = '^src/(bpf|virtio|packet)/';

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      comment: 'a cycle hides which of the parts depends on the other; one of types alone does, too',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'bpf-imports-nothing-of-ours',
      comment: 'but how addresses are written, which values of maps are',
      severity: 'error',
      from: { path: '^src/bpf/' },
      to: {
        path: '^(src|plugins)/',
        pathNot:
          '^src/(bpf/|packet/(ipv4|ipv6|mac-address)\\.ts$|core/(diagnostic|fresh-bytes|printable)\\.ts$)',
      },
    },
    {
      name: 'virtio-imports-nothing-of-ours',
      severity: 'error',
      from: { path: '^src/virtio/' },
      to: { path: '^(src|plugins)/', pathNot: '^src/(virtio/|core/(diagnostic|fresh-bytes)\\.ts$)' },
    },
    {
      name: 'packet-imports-nothing-of-ours',
      severity: 'error',
      from: { path: '^src/packet/' },
      to: { path: '^(src|plugins)/', pathNot: '^src/(packet/|core/(diagnostic|fresh-bytes)\\.ts$)' },
    },
    {
      name: 'core-imports-only-the-pure-libraries',
      severity: 'error',
      from: { path: '^src/core/', pathNot: '(\\.test|/testing-[^/]+)\\.ts$' },
      to: { path: '^(src|plugins)/', pathNot: `^src/core/|${PURE}` },
    },
    {
      name: 'contracts-are-only-contracts',
      comment: 'a contract names types of the pure libraries and of other contracts, never an implementation',
      severity: 'error',
      from: { path: '^src/core/contract/' },
      to: { path: '^(src|plugins)/', pathNot: `^src/core/(contract/|diagnostic\\.ts$)|${PURE}` },
    },
    {
      name: 'plugins-see-contracts-not-each-other',
      severity: 'error',
      from: { path: '^plugins/([^/]+)/', pathNot: '\\.test\\.ts$' },
      to: {
        path: '^(src|plugins)/',
        pathNot: `^plugins/$1/|^src/core/(contract/|offload/|clock/|cost-model/|measurement/|(diagnostic|fresh-bytes|printable)\\.ts$)|^src/(linux|report)/|${PURE}`,
      },
    },
    {
      name: 'linux-imports-only-the-pure-libraries',
      severity: 'error',
      from: { path: '^src/linux/', pathNot: '\\.test\\.ts$' },
      to: { path: '^(src|plugins)/', pathNot: `^src/(linux/|core/(diagnostic\\.ts$|contract/))|${PURE}` },
    },
    {
      name: 'only-presets-name-plugins',
      severity: 'error',
      from: { path: '^src/', pathNot: '(\\.test|/testing-[^/]+)\\.ts$|^src/presets\\.ts$|^src/guest-agent/' },
      to: { path: '^plugins/' },
    },
    {
      name: 'guest-agent-is-a-program-of-its-own',
      comment:
        'the first process of a real guest, bundled into one file: core/offload drives the nic, with the plugins of the kernel that it runs on, named here because a guest has no registry',
      severity: 'error',
      from: { path: '^src/guest-agent/', pathNot: '\\.test\\.ts$' },
      to: {
        path: '^(src|plugins)/',
        pathNot: `^src/(guest-agent|linux)/|^src/core/(contract/|offload/|diagnostic\\.ts$)|^plugins/(map-backend|executor|verifier)-kernel/|${PURE}`,
      },
    },
    {
      name: 'nothing-imports-the-guest-agent',
      severity: 'error',
      from: { pathNot: '^src/guest-agent/|\\.test\\.ts$' },
      to: { path: '^src/guest-agent/' },
    },
    {
      name: 'report-imports-result-types',
      severity: 'error',
      from: { path: '^src/report/', pathNot: '\\.test\\.ts$' },
      to: { path: '^(src|plugins)/', pathNot: `^src/report/|^src/core/|${PURE}` },
    },
    {
      name: 'nothing-imports-the-cli',
      severity: 'error',
      from: { pathNot: '^src/cli/|\\.test\\.ts$' },
      to: { path: '^src/cli/' },
    },
    {
      name: 'unit-tests-see-the-core-not-plugins',
      severity: 'error',
      from: { path: '^src/unit-test/', pathNot: '\\.test\\.ts$' },
      to: { path: '^(src|plugins)/', pathNot: `^src/(unit-test/|core/|(presets|version)\\.ts$)|${PURE}` },
    },
    {
      name: 'only-core-plugin-uses-the-container',
      comment: 'tsyringe silently replaces bindings and does not order disposal; core/plugin does both',
      severity: 'error',
      from: { pathNot: '^src/core/(plugin/|contract/injection\\.ts$)' },
      to: { path: 'node_modules/tsyringe', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'koffi-only-in-linux',
      severity: 'error',
      from: { pathNot: '^src/linux/' },
      to: { path: '(^|/)koffi' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
};
