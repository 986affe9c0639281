//! What must happen in one piece at the server. Times are the server's own.

use redis::Cmd;

/// Now, in milliseconds.
macro_rules! now {
    () => {
        "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "
    };
}

/// Keeps what a group has agreed on, unless there is something already; gives what there is.
/// KEYS: shape. ARGV: ours.
pub(super) const AGREE: &str = "redis.call('SET', KEYS[1], ARGV[1], 'NX') \
     return redis.call('GET', KEYS[1])";

/// Returns an entry to the group, if it is still ours: at once or at a time.
/// KEYS: lane, due. ARGV: group, consumer, id, attempt of the next hand-over, delay in ms or -1 for
/// the front. Gives 1, 0 if it is not ours, or -1 if it was trimmed, which ends it.
pub(super) const GIVE_BACK: &str = concat!(
    "if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 \
     then return 0 end ",
    now!(),
    "local at = 0 if tonumber(ARGV[5]) >= 0 then at = now + tonumber(ARGV[5]) end \
     local kept = redis.call('XCLAIM', KEYS[1], ARGV[1], '_due', 0, ARGV[3], \
       'RETRYCOUNT', ARGV[4], 'JUSTID') \
     if #kept == 0 then return -1 end \
     redis.call('ZADD', KEYS[2], at, ARGV[3]) \
     return 1"
);

/// Stores the attempt of an entry that stays in our hands, and its time, if it is still ours. What was
/// trimmed stays in our hands too: a claim would take it from us.
/// Keys and arguments as GIVE_BACK's. Gives 1, or 0 if it is not ours.
pub(super) const KEEP: &str = concat!(
    "if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 \
     then return 0 end ",
    now!(),
    "if #redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3]) == 0 then return 1 end \
     redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'RETRYCOUNT', ARGV[4], 'JUSTID') \
     if tonumber(ARGV[5]) > 0 then redis.call('ZADD', KEYS[2], now + tonumber(ARGV[5]), ARGV[3]) \
     else redis.call('ZREM', KEYS[2], ARGV[3]) end \
     return 1"
);

/// Whether an entry is still ours. KEYS: lane. ARGV: group, consumer, id.
pub(super) const IS_OURS: &str =
    "return #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])";

/// Takes entries once more that were delivered to us and did not arrive; not those that were settled
/// or handed on since they were listed. KEYS: lane. ARGV: group, consumer, ids.
/// Gives entries as {id, fields, attempt}, and how many were trimmed.
pub(super) const TAKE_AGAIN: &str = "local out, gone = {}, 0 \
     for i = 3, #ARGV do \
       local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1] \
       if p then \
         local e = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, p[1], 'RETRYCOUNT', p[4]) \
         if e[1] then out[#out + 1] = {p[1], e[1][2], p[4]} else \
           gone = gone + 1 redis.call('XACK', KEYS[1], ARGV[1], p[1]) end \
       end \
     end \
     return {out, gone}";

/// Takes entries whose time has come. An entry that was in the hands of dead members twice goes out
/// alone of its lane, so that one which kills its members is found and its neighbours are not blamed.
/// KEYS: lane, due, suspects, trial. ARGV: group, consumer, how many.
/// Gives entries as {id, fields, attempt}, how many were trimmed, and the ms until the next or -1.
pub(super) const TAKE_DUE: &str = concat!(
    now!(),
    "local out, gone = {}, 0 \
     for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[3])) do \
       local p = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) \
       if #p == 0 then redis.call('ZREM', KEYS[2], id) else \
         local free = true \
         if tonumber(redis.call('HGET', KEYS[3], id) or 0) >= 2 then \
           local trial = redis.call('GET', KEYS[4]) \
           if trial and trial ~= id then \
             local q = redis.call('XPENDING', KEYS[1], ARGV[1], trial, trial, 1) \
             free = #q == 0 or q[1][2] == '_due' \
           end \
           if free then redis.call('SET', KEYS[4], id) end \
         end \
         if free then \
           redis.call('ZREM', KEYS[2], id) \
           local e = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', p[1][4]) \
           if e[1] then out[#out + 1] = {id, e[1][2], p[1][4]} else \
             gone = gone + 1 redis.call('XACK', KEYS[1], ARGV[1], id) end \
         end \
       end \
     end \
     local following = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] \
     local wait = -1 if following then wait = math.max(0, tonumber(following) - now) end \
     return {out, gone, wait}"
);

/// Takes over from members that were not seen for too long, and forgets those that hold nothing.
/// KEYS: lane, due, suspects. ARGV: group, ms of silence. Gives how many entries had been trimmed.
pub(super) const TAKE_OVER: &str = concat!(
    now!(),
    "local gone = 0 \
     for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do \
       local f = {} for i = 1, #c, 2 do f[c[i]] = c[i + 1] end \
       if f.name ~= '_due' and f.idle > tonumber(ARGV[2]) then \
         if f.pending == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name) else \
           for _, p in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, f.name)) do \
             local kept = redis.call('XCLAIM', KEYS[1], ARGV[1], '_due', 0, p[1], \
               'RETRYCOUNT', p[4] + 1, 'JUSTID') \
             if #kept == 0 then gone = gone + 1 else \
               redis.call('HINCRBY', KEYS[3], p[1], 1) \
               redis.call('ZADD', KEYS[2], now, p[1]) \
             end \
           end \
         end \
       end \
     end \
     return gone"
);

/// Forgets a member that has left, unless it still holds something. KEYS: lane. ARGV: group,
/// consumer.
pub(super) const LEAVE: &str = "if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 \
     then return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2]) end \
     return -1";

/// Takes or renews the ownership of a lane. KEYS: lease. ARGV: consumer, ms.
/// Gives {epoch, whether its last owner vanished}, or {0, 0} if another has it.
pub(super) const LEASE: &str = concat!(
    now!(),
    "local h = redis.call('HMGET', KEYS[1], 'owner', 'until', 'epoch') \
     local owner, till, epoch = h[1], tonumber(h[2] or 0), tonumber(h[3] or 0) \
     if owner and owner ~= ARGV[1] and till > now then return {0, 0} end \
     local vanished = 0 \
     if owner ~= ARGV[1] then epoch = epoch + 1 if owner then vanished = 1 end end \
     redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', now + tonumber(ARGV[2]), 'epoch', epoch) \
     return {epoch, vanished}"
);

/// Gives a lane up, if it is ours. KEYS: lease. ARGV: consumer.
pub(super) const UNLEASE: &str = "if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] \
     then return redis.call('HDEL', KEYS[1], 'owner', 'until') end return 0";

/// Takes everything of a lane that is in the hands of others, as its owner may, in order. A new owner
/// takes what it held itself when it gave the lane up.
/// KEYS: lane, due, suspects, lease. ARGV: group, consumer, whether its last owner vanished, whether
/// it is a new owner.
/// Gives entries as {id, fields, attempt, ms until its time}, and how many were trimmed.
pub(super) const TAKE_LANE: &str = concat!(
    now!(),
    "local out, gone = {}, 0 \
     if redis.call('HGET', KEYS[4], 'owner') ~= ARGV[2] then return {out, gone} end \
     local from = '-' \
     while true do \
       local all = redis.call('XPENDING', KEYS[1], ARGV[1], from, '+', 500) \
       for _, p in ipairs(all) do \
         if p[2] ~= ARGV[2] or ARGV[4] == '1' then \
           local attempt = p[4] \
           if ARGV[3] == '1' then \
             attempt = attempt + 1 redis.call('HINCRBY', KEYS[3], p[1], 1) end \
           local e = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, p[1], 'RETRYCOUNT', attempt) \
           if e[1] then \
             local at = tonumber(redis.call('ZSCORE', KEYS[2], p[1]) or 0) \
             out[#out + 1] = {p[1], e[1][2], attempt, math.max(0, at - now)} \
           else gone = gone + 1 redis.call('XACK', KEYS[1], ARGV[1], p[1]) end \
         end \
       end \
       if #all < 500 then break end \
       from = '(' .. all[#all][1] \
     end \
     return {out, gone}"
);

/// Keeps a member of an ordered group on the list. KEYS: members. ARGV: consumer, ms of silence.
/// Gives all members in order.
pub(super) const MEMBERS: &str = concat!(
    now!(),
    "redis.call('ZADD', KEYS[1], now, ARGV[1]) \
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2])) \
     local all = redis.call('ZRANGE', KEYS[1], 0, -1) table.sort(all) return all"
);

/// Trims a lane: what is older than the retention, and of a work stream what every group has
/// settled; never what a group still needs. KEYS: lane. ARGV: 1 for a work stream, retention in ms
/// or -1. Broadcasts whose member is gone are ended before.
pub(super) const TRIM: &str = concat!(
    now!(),
    "local function less(a, b) \
       local am, an = string.match(a, '(%d+)-(%d+)') local bm, bn = string.match(b, '(%d+)-(%d+)') \
       am, bm = tonumber(am), tonumber(bm) \
       if am ~= bm then return am < bm end return tonumber(an) < tonumber(bn) end \
     if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end \
     local first = nil \
     for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do \
       local f = {} for i = 1, #g, 2 do f[g[i]] = g[i + 1] end \
       local alive = true \
       if string.sub(f.name, 1, 1) == '_' then \
         alive = false \
         for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], f.name)) do \
           local m = {} for i = 1, #c, 2 do m[c[i]] = c[i + 1] end \
           if m.name ~= '_due' and m.idle < 60000 then alive = true end \
         end \
         if not alive then redis.call('XGROUP', 'DESTROY', KEYS[1], f.name) end \
       end \
       if alive then \
         local need = f['last-delivered-id'] \
         if f.pending > 0 then need = redis.call('XPENDING', KEYS[1], f.name)[2] end \
         if not first or less(need, first) then first = need end \
       end \
     end \
     local retention = tonumber(ARGV[2]) \
     local upto = nil \
     if ARGV[1] == '1' then upto = first end \
     if retention >= 0 then \
       local old = string.format('%.0f-0', math.max(0, now - retention)) \
       if not first then first = old end \
       if less(old, first) then first = old end \
       if not upto or less(upto, first) then upto = first end \
     end \
     if not upto then return 0 end \
     return redis.call('XTRIM', KEYS[1], 'MINID', upto)"
);

/// A call of a script.
pub(super) fn call(script: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(keys.len()).arg(keys);
    command
}
