-- One rate limit, in the one hash KEYS[1]: up to when requests and tokens are reserved, until when
-- all calls pause, who holds a slot, and which workers there are. All times are microseconds of
-- the server's own clock, so that no worker's clock matters.
local key, operation = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local MINUTE = 60000000

local function argument(number)
  return tonumber(ARGV[number])
end

local function keep(field, value)
  redis.call('HSET', key, field, string.format('%.0f', value))
end

local function read(field)
  return tonumber(redis.call('HGET', key, field) or 0)
end

-- Where the clock was set back, or a server with another took over: all times go back with it, or
-- every call would wait until it has caught up.
local back = read('clock') - now
if back > 0 then
  local fields = redis.call('HGETALL', key)
  for number = 1, #fields, 2 do
    keep(fields[number], tonumber(fields[number + 1]) - back)
  end
end

-- Long after anything in it matters, the hash is gone.
local function expire(last)
  keep('clock', now)
  -- A year at most: no number is too large for PEXPIRE then.
  local left = math.min(math.max(last - now, 0) / 1000, 365 * 24 * 60 * 60 * 1000)
  redis.call('PEXPIRE', key, math.ceil(left) + 15 * 60 * 1000)
end

if operation == 'pause' then
  local ending = math.max(read('pause'), now + argument(2))
  keep('pause', ending)
  expire(ending)
  return {1, ending - now, 0, 0}
end

if operation == 'release' then
  -- ARGV: slot, microseconds of the tokens that were reserved in excess (below 0: too few)
  redis.call('HDEL', key, 's:' .. ARGV[2])
  local tokens, excess = read('tokens'), argument(3)
  if excess ~= 0 and tokens > 0 then
    keep('tokens', math.max(tokens - excess, 0))
    expire(tokens - excess)
  end
  return {1, 0, 0, 0}
end

if operation == 'renew' then
  -- ARGV: microseconds, slots
  for number = 3, #ARGV do
    keep('s:' .. ARGV[number], now + argument(2))
  end
  expire(now)
  return {1, 0, 0, 0}
end

-- reserve. ARGV: 2 microseconds between requests, 3 requests at once; 4 microseconds a token,
-- 5 tokens at once, 6 tokens of this call; 7 slots there are, 8 the slot's name, 9 microseconds
-- until it expires; 10 the worker; 11 the longest wait; 12 the start that was given before, or 0.
local slots, slot = argument(7), 's:' .. ARGV[8]
local fields = redis.call('HGETALL', key)
local state, held, workers, mine = {}, 0, 0, false
for number = 1, #fields, 2 do
  local name, value = fields[number], tonumber(fields[number + 1])
  local kind = string.sub(name, 1, 2)
  if kind ~= 's:' and kind ~= 'w:' then
    state[name] = value
  elseif value <= now then
    redis.call('HDEL', key, name)
  elseif kind == 'w:' then
    workers = workers + (name == 'w:' .. ARGV[10] and 0 or 1)
  else
    held = held + 1
    mine = mine or name == slot
  end
end
workers = workers + 1
keep('w:' .. ARGV[10], now + MINUTE)
local pause, before = state['pause'] or 0, argument(12)
if before > 0 and pause <= now then
  return {1, 0, before, workers} -- no pause has come in between
end
if slots > 0 and held >= slots and not mine then
  expire(now)
  return {0, 0, 0, workers}
end

-- https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm, as a reservation: each call moves the
-- time on at which the limit is met again, and is told when its own turn is.
local base = math.max(now, pause)
local function turn(reserved, interval, burst, cost)
  if interval == 0 then
    return base, base -- there is no such limit
  end
  local ending = math.max(reserved or 0, base) + cost * interval
  return ending, math.max(base, ending - burst * interval)
end
local requests, start = turn(state['requests'], argument(2), argument(3), 1)
local tokens, start_of_tokens = turn(state['tokens'], argument(4), argument(5), argument(6))
start = math.ceil(math.max(start, start_of_tokens))
expire(math.max(requests, tokens))
if start - now > argument(11) then
  if mine then
    redis.call('HDEL', key, slot)
  end
  return {2, start - now, 0, workers}
end
if slots > 0 then
  keep(slot, now + argument(9))
end
keep('requests', requests)
keep('tokens', tokens)
return {1, start - now, start, workers}
