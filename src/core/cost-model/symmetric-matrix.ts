/** Rows of a symmetric, positive definite matrix. */
export type SymmetricMatrix = readonly (readonly number[])[];

/** Lower triangle L with L·Lᵀ the matrix (Cholesky). Throws RangeError for one that is not positive definite. */
function cholesky(matrix: SymmetricMatrix): number[][] {
  const lower: number[][] = matrix.map(() => []);
  for (const [row, entries] of matrix.entries()) {
    for (let column = 0; column <= row; column++) {
      let sum = entries[column]!;
      for (let k = 0; k < column; k++) sum -= lower[row]![k]! * lower[column]![k]!;
      if (row !== column) {
        lower[row]!.push(sum / lower[column]![column]!);
      } else {
        if (!(sum > 0)) throw new RangeError('the matrix is not positive definite');
        lower[row]!.push(Math.sqrt(sum));
      }
    }
  }
  return lower;
}

/** x with matrix·x = right. */
export function solve(matrix: SymmetricMatrix, right: readonly number[]): number[] {
  const lower = cholesky(matrix);
  const x = [...right];
  for (let row = 0; row < x.length; row++) {
    for (let k = 0; k < row; k++) x[row]! -= lower[row]![k]! * x[k]!;
    x[row]! /= lower[row]![row]!;
  }
  for (let row = x.length - 1; row >= 0; row--) {
    for (let k = row + 1; k < x.length; k++) x[row]! -= lower[k]![row]! * x[k]!;
    x[row]! /= lower[row]![row]!;
  }
  return x;
}

export function inverse(matrix: SymmetricMatrix): number[][] {
  return matrix.map((_, row) =>
    solve(
      matrix,
      matrix.map((_, column) => (column === row ? 1 : 0)),
    ),
  );
}
