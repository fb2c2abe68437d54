/** What things cost in virtual time. */
export * from './calibration.js';
export * from './cost-model.js';
export * from './cost-parameters.js';
