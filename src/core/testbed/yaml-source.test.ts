import { describe, expect, it } from 'vitest';
import { YamlSource } from './yaml-source.js';

const problems = (text: string) =>
  new YamlSource('f', text).problems.map(({ at, message }) => `${at.line}: ${message}`);

describe('a YAML file that is an attack on its reader', () => {
  it.each([
    ['lists in lists', '['.repeat(100_000)],
    ['maps in maps', 'a: '.repeat(5_000)],
    ['keys of keys', '? '.repeat(30_000)],
    ['one level more than the limit', `${'['.repeat(65)}${']'.repeat(65)}`],
  ])('%s are one problem, not one for each level', (_, text) => {
    expect(problems(text)).toEqual(['1: lists and maps are nested deeper than the limit of 64']);
  });

  it('what is nested as deep as the limit is read', () => {
    expect(problems(`${'['.repeat(64)}${']'.repeat(64)}`)).toEqual([]);
  });

  it('a file that is too long is not parsed', () => {
    expect(problems('a'.repeat(2 ** 20 + 1))).toEqual(['1: 1048577 characters exceed the limit of 1048576']);
  });

  it('several documents are not one testbed', () => {
    expect(problems('a: 1\n---\nb: 2\n')).toEqual(['2: the file holds several documents; a testbed is one']);
  });
});
