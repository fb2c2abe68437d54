import type { PanelRule } from '../contract/run-spec.js';
import type { Verification, Verifier, VerifyRequest } from '../contract/verifier.js';

/**
 * Several verifiers side by side, as one: `all` accepts when every one of them does, `any` when one does,
 * `first` as the first one does. All of them judge, whatever the first says, so that their opinions can be
 * compared; but with `in-turn`, as `all`, none behind one that rejects. What is known of the program (facts, properties, whether it is contained) comes from the first acceptance that has it.
 */
export class VerifierPanel implements Verifier {
  readonly name: string;

  constructor(
    readonly members: readonly Verifier[],
    readonly rule: PanelRule,
  ) {
    this.name = members.map((member) => member.name).join('+');
  }

  async verify(request: VerifyRequest): Promise<Verification> {
    const opinions: Verification[] = [];
    for (const member of this.members) {
      const opinion = await member.verify(request);
      opinions.push(opinion);
      if (this.rule === 'in-turn' && !opinion.accepted) break;
    }
    return { ...this.#decide(opinions), opinions };
  }

  #decide(opinions: readonly Verification[]): Verification {
    const rejection = opinions.find((opinion) => !opinion.accepted);
    const acceptances = opinions.filter((opinion) => opinion.accepted);
    const decisive =
      this.rule === 'first'
        ? opinions[0]!
        : this.rule === 'any'
          ? (acceptances[0] ?? rejection!)
          : (rejection ?? acceptances[0]!);
    if (!decisive.accepted) return decisive;
    return {
      ...decisive,
      contained: acceptances.some((opinion) => opinion.contained === true),
      facts: acceptances.find((opinion) => opinion.facts !== undefined)?.facts,
      properties: acceptances.find((opinion) => opinion.properties !== undefined)?.properties,
    };
  }
}
