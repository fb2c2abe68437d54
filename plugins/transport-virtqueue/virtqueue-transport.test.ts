import { transportConformance } from '../../src/conformance/transport/index.js';
import { VirtqueueTransport } from './virtqueue-transport.js';

transportConformance('virtqueue', () => new VirtqueueTransport());
