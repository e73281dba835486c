# One image for every piece: setup, migrate, api, worker. TypeScript runs natively, so only the console, a web page, is built.
FROM node:24.21.0-bookworm-slim AS build

WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts && npm cache clean --force
COPY . .
# Without a build the script succeeds as well.
RUN node scripts/prepare.mjs && test -f console/dist/index.html

FROM node:24.21.0-bookworm-slim

ENV NODE_ENV=production HOST=0.0.0.0 METRICS_HOST=0.0.0.0
WORKDIR /app

# No install scripts: they link the embedded PostgreSQL, which isn't used here.
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts && npm cache clean --force

COPY . .
COPY --from=build /app/console/dist console/dist

USER node
EXPOSE 3000
ENTRYPOINT ["node", "--max-semi-space-size=4", "--heap-growing-percent=20", "src/main.ts"]
CMD ["api"]
