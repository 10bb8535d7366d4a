// The part of speed-highlight that the page uses: the generator asks for languages by name, and is given them.

export function tokenizer(
  text: string,
  language: string,
  take: (piece: string, type?: string) => void,
): Generator<string, void, object | undefined>;

export const languages: Record<string, object>;
