import { reporterConformance } from 'xdpbed/conformance';
import { Totals } from './index.js';

reporterConformance('totals', () => new Totals('frames'));
