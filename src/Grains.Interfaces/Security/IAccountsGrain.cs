using Orleans.Concurrency;

namespace GpuTasks.Security;

/// <summary>Answer to a change of the accounts. Numbers never change.</summary>
public enum AccountChange
{
    /// <summary>Done and durable.</summary>
    Done = 0,

    /// <summary>There is no such account or key.</summary>
    NotFound = 1,

    /// <summary>There is one of this id already.</summary>
    AlreadyExists = 2,

    /// <summary>There are as many as there may be.</summary>
    LimitReached = 3,
}

/// <summary>Accounts and their keys, durable. One for the cluster, key <c>accounts</c>; gateways read it again every 2 s.</summary>
[Alias("GpuTasks.IAccountsGrain")]
public interface IAccountsGrain : IGrainWithStringKey
{
    /// <summary>Everything, or null if it is still as in <paramref name="version"/>.</summary>
    /// <param name="version">Version that the caller has; -1 for none.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("ReadSince"), ReadOnly]
    Task<AccountDirectory?> ReadSince(long version, CancellationToken cancellationToken = default);

    /// <summary>Makes an account, at most 1,000.</summary>
    [Alias("Create")]
    Task<AccountChange> Create(string account, AccountSettings settings, CancellationToken cancellationToken = default);

    /// <summary>Changes an account's settings.</summary>
    [Alias("Set")]
    Task<AccountChange> Set(string account, AccountSettings settings, CancellationToken cancellationToken = default);

    /// <summary>Adds a key, at most 20 for an account; one that expired makes room.</summary>
    /// <param name="account">Account.</param>
    /// <param name="key">The key; its id is new over all accounts.</param>
    /// <param name="replaced">Key that it takes the place of, or null.</param>
    /// <param name="replacedUntil">How long the key that is replaced stays valid.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("AddKey")]
    Task<AccountChange> AddKey(
        string account, AccountKey key, string? replaced, DateTimeOffset replacedUntil, CancellationToken cancellationToken = default);

    /// <summary>Lets a key open nothing, or something again.</summary>
    [Alias("DisableKey")]
    Task<AccountChange> DisableKey(string account, string key, bool disabled, CancellationToken cancellationToken = default);

    /// <summary>Removes a key for ever.</summary>
    [Alias("RemoveKey")]
    Task<AccountChange> RemoveKey(string account, string key, CancellationToken cancellationToken = default);
}
