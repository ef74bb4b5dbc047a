// The rules for the page and its tests: likely mistakes, and ways by which text could become HTML or code.

const mistakes = {
  'constructor-super': 'error', eqeqeq: 'error', 'for-direction': 'error', 'no-cond-assign': 'error', 'no-const-assign': 'error',
  'no-constant-condition': 'error', 'no-dupe-args': 'error', 'no-dupe-class-members': 'error', 'no-dupe-else-if': 'error', 'no-dupe-keys': 'error',
  'no-duplicate-case': 'error', 'no-empty': ['error', { allowEmptyCatch: true }], 'no-fallthrough': 'error', 'no-self-assign': 'error', 'no-shadow': ['error', { hoist: 'never' }],
  'no-sparse-arrays': 'error', 'no-unreachable': 'error', 'no-unsafe-finally': 'error', 'no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
  'no-var': 'error', 'prefer-const': 'error', 'use-isnan': 'error', 'valid-typeof': 'error', 'max-lines': ['error', 400],
  'max-lines-per-function': ['error', 60],
};
const toHtml = ['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'setHTMLUnsafe', 'srcdoc', 'write', 'writeln', 'createContextualFragment', 'parseFromString'];
const message = 'Text must not become HTML: use h() and textContent.';

export default [
  { ignores: ['node_modules/'] },
  { rules: mistakes, languageOptions: { ecmaVersion: 2024, sourceType: 'module' } },
  {
    files: ['**/src/service/page/**'],
    rules: {
      'no-eval': 'error', 'no-implied-eval': 'error', 'no-new-func': 'error', 'no-script-url': 'error',
      'no-restricted-syntax': ['error',
        ...toHtml.map((name) => ({ selector: `MemberExpression[property.name='${name}']`, message })),
        { selector: "CallExpression[callee.name='h'] > ObjectExpression > Property[key.name='style']",
          message: 'The policy forbids style attributes: use classes.' }],
    },
  },
];
