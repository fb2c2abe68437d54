import { describe, expect, it } from 'vitest';
import { UndoSteps } from './undo-steps.js';

describe('undo steps', () => {
  const failing = (error: unknown) => () => {
    throw error;
  };

  it('run last first, each once, and one that fails does not keep the others', async () => {
    const undo = new UndoSteps();
    const done: number[] = [];
    undo.add(() => void done.push(1));
    undo.add(failing(new Error('two')));
    undo.keep({ close: async () => void done.push(3) });
    await expect(undo.run()).rejects.toMatchObject({ message: 'two', errors: [{ message: 'two' }] });
    expect(done).toEqual([3, 1]);
    await undo.run();
    expect(done).toEqual([3, 1]);
  });

  it('give the parts of what failed in several ways', async () => {
    const undo = new UndoSteps();
    undo.add(failing(new Error('a')));
    undo.add(failing(new AggregateError([new Error('b'), new Error('c')])));
    await expect(undo.run()).rejects.toMatchObject({ message: 'b; c; a' });
  });

  it('do not hide what went wrong first', async () => {
    const error = new Error('first');
    const undo = new UndoSteps();
    expect(await undo.runAfter(error)).toBe(error);
    undo.add(failing(new Error('then')));
    expect(await undo.runAfter(error)).toMatchObject({ message: 'first; then', errors: [error, {}] });
  });
});
