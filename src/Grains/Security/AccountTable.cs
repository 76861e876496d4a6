namespace GpuTasks.Security;

/// <summary>Stored row of all accounts; JSON by property name, so a rename is a migration.</summary>
public sealed record AccountsState
{
    /// <summary>Grows with each change.</summary>
    public long Version { get; init; }

    /// <summary>By id, ascending.</summary>
    public IReadOnlyList<AccountRecord> Accounts { get; init; } = [];
}

/// <summary>What changes of accounts do. Pure.</summary>
public static class AccountTable
{
    /// <summary>Most accounts.</summary>
    public const int MaxAccounts = 1_000;

    /// <summary>Most keys of one account.</summary>
    public const int MaxKeys = 20;

    /// <summary>Makes an account.</summary>
    public static (AccountsState Next, AccountChange Answer) Create(AccountsState now, string account, AccountSettings settings, DateTimeOffset at) =>
        Find(now, account) is not null ? (now, AccountChange.AlreadyExists)
        : now.Accounts.Count >= MaxAccounts ? (now, AccountChange.LimitReached)
        : (With(now, [.. now.Accounts, new AccountRecord { Id = account, Settings = settings, CreatedAt = at, ModifiedAt = at }]), AccountChange.Done);

    /// <summary>Changes an account's settings.</summary>
    public static (AccountsState Next, AccountChange Answer) Set(AccountsState now, string account, AccountSettings settings, DateTimeOffset at) =>
        Find(now, account) is { } record ? (Replace(now, record with { Settings = settings, ModifiedAt = at }), AccountChange.Done) : (now, AccountChange.NotFound);

    /// <summary>Adds a key, and lets the one that it replaces run out.</summary>
    public static (AccountsState Next, AccountChange Answer) AddKey(
        AccountsState now, string account, AccountKey key, string? replaced, DateTimeOffset replacedUntil, DateTimeOffset at)
    {
        if (Find(now, account) is not { } record || (replaced is not null && record.Keys.All(known => known.Id != replaced)))
        {
            return (now, AccountChange.NotFound);
        }

        if (now.Accounts.Any(other => other.Keys.Any(known => known.Id == key.Id)))
        {
            return (now, AccountChange.AlreadyExists);
        }

        // A key that ran out can only be looked at; the list would fill with them otherwise.
        var keys = record.Keys.Where(known => known.ExpiresAt is null || at < known.ExpiresAt || known.Id == replaced)
            .Select(known => known.Id == replaced && (known.ExpiresAt is null || replacedUntil < known.ExpiresAt) ? known with { ExpiresAt = replacedUntil } : known)
            .ToList();
        return keys.Count >= MaxKeys
            ? (now, AccountChange.LimitReached)
            : (Replace(now, record with { Keys = [.. keys, key with { CreatedAt = at }], ModifiedAt = at }), AccountChange.Done);
    }

    /// <summary>Lets a key open nothing, or something again.</summary>
    public static (AccountsState Next, AccountChange Answer) DisableKey(AccountsState now, string account, string key, bool disabled, DateTimeOffset at) =>
        ChangeKey(now, account, key, known => known with { Disabled = disabled }, at);

    /// <summary>Removes a key.</summary>
    public static (AccountsState Next, AccountChange Answer) RemoveKey(AccountsState now, string account, string key, DateTimeOffset at) =>
        ChangeKey(now, account, key, _ => null, at);

    private static (AccountsState, AccountChange) ChangeKey(
        AccountsState now, string account, string key, Func<AccountKey, AccountKey?> change, DateTimeOffset at) =>
        Find(now, account) is { } record && record.Keys.Any(known => known.Id == key)
            ? (Replace(now, record with
            {
                Keys = [.. record.Keys.Select(known => known.Id == key ? change(known) : known).OfType<AccountKey>()],
                ModifiedAt = at,
            }), AccountChange.Done)
            : (now, AccountChange.NotFound);

    private static AccountRecord? Find(AccountsState now, string account) => now.Accounts.FirstOrDefault(record => record.Id == account);

    private static AccountsState Replace(AccountsState now, AccountRecord next) =>
        With(now, now.Accounts.Select(record => record.Id == next.Id ? next : record));

    private static AccountsState With(AccountsState now, IEnumerable<AccountRecord> accounts) =>
        now with { Version = now.Version + 1, Accounts = [.. accounts.OrderBy(record => record.Id, StringComparer.Ordinal)] };
}
