import type { FailureMessage } from '../failure-message.js';
import type { PanelRule } from '../contract/run-spec.js';
import type { VerificationLimits, VerifierMap, Verification } from '../contract/verifier.js';
import type { ProgramMessage } from './program-message.js';

/** What a judge is made of: the verifiers that it asks, as their modules and checked configs. */
export interface JudgeRecipe {
  readonly rule: PanelRule;
  readonly verifiers: readonly { readonly module: string; readonly config: unknown }[];
}

export type ToJudge =
  | { readonly kind: 'recipe'; readonly recipeId: number; readonly recipe: JudgeRecipe }
  | {
      readonly kind: 'verify';
      readonly id: number;
      /** Of one that is ready. */
      readonly recipeId: number;
      readonly program: ProgramMessage;
      readonly maps: ReadonlyMap<number, VerifierMap>;
      readonly log: boolean;
      readonly limits: VerificationLimits | undefined;
    }
  | { readonly kind: 'cancel'; readonly id: number };

export type FromJudge =
  | { readonly kind: 'ready'; readonly recipeId: number; readonly name: string }
  | { readonly kind: 'unusable'; readonly failure: FailureMessage }
  | { readonly kind: 'verified'; readonly id: number; readonly verification: Verification }
  | { readonly kind: 'failed'; readonly id: number; readonly failure: FailureMessage };
