import { XdpbedError } from '../../core/diagnostic.js';

export function checkFormat(format: string): void {
  if (format !== 'table' && format !== 'json')
    throw new XdpbedError('usage', `--format '${format}' is not one of table, json`);
}

/** Per cent above 0, as a part of one. */
export function percent(option: string, text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(value) || value <= 0)
    throw new XdpbedError('usage', `${option} '${text}' is not a number of per cent above 0`);
  return value / 100;
}
