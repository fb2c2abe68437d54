import { expect, it } from 'vitest';
import { printable } from './printable.js';

it('makes control and direction characters visible, and leaves other scripts alone', () => {
  expect(printable('a\u001b[2J\u202eb\n')).toBe('a\\u{1b}[2J\\u{202e}b\\u{a}');
  expect(printable('é 中 ✓ …')).toBe('é 中 ✓ …');
});
