import { describe, expect, it } from 'vitest';
import { Stretch } from './stretch.js';

describe('a stretch', () => {
  it('is over after so many commands, however little they bring', () => {
    const stretch = new Stretch(3, () => 0);
    for (const over of [false, false, true]) {
      stretch.begin();
      expect(stretch.isOver).toBe(over);
    }
    stretch.renew();
    expect(stretch.isOver).toBe(false);
  });

  it('is over after 256 KiB of commands and answers', () => {
    const stretch = new Stretch(64, () => 0);
    stretch.begin();
    stretch.add(200 * 1024);
    stretch.add(56 * 1024 - 1);
    expect(stretch.isOver).toBe(false);
    stretch.add(1);
    expect(stretch.isOver).toBe(true);
    stretch.renew();
    expect(stretch.isOver).toBe(false);
  });

  it('is over 2 ms after its first command began', () => {
    let now = 10;
    const stretch = new Stretch(64, () => now);
    now = 100;
    expect(stretch.isOver, 'nothing was asked').toBe(false);
    stretch.begin();
    now = 101.9;
    stretch.begin();
    expect(stretch.isOver).toBe(false);
    now = 102;
    expect(stretch.isOver).toBe(true);
    stretch.renew();
    expect(stretch.isOver).toBe(false);
    stretch.begin();
    now = 103.9;
    expect(stretch.isOver).toBe(false);
  });
});
