// Debian's Chromium, driven by playwright-core, and pages that fail a test when they report an error.

import { chromium } from 'playwright-core';
import { existsSync } from 'node:fs';

const PROGRAMS = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

export function launch() {
  const executablePath = PROGRAMS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error('no Chromium: install it, or set CHROMIUM');
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] });
}

/** Opens the page; `errors` of it collects what the browser complains about, violations of the policy among them. */
export async function openPage(browser, url, { size = DESKTOP, scheme = 'light', locale = 'en-GB', ...others } = {}) {
  const context = await browser.newContext({ viewport: size, colorScheme: scheme, locale, timezoneId: 'UTC', hasTouch: size === PHONE, ...others });
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(`${error.message} ${error.stack?.split('\n')[1] ?? ''}`));
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  await page.goto(url);
  await page.locator('footer.status').waitFor();
  return page;
}
