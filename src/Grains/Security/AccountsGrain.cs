using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Security;

/// <summary>Keeps the accounts: <see cref="AccountTable"/> decides, each change is written before it is answered.</summary>
[GrainType("accounts")]
public sealed class AccountsGrain(
    [PersistentState(StoreNames.Accounts, StoreNames.Provider)] IPersistentState<AccountsState> store,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : Grain, IAccountsGrain
{
    /// <inheritdoc />
    public Task<AccountDirectory?> ReadSince(long version, CancellationToken cancellationToken = default) => Task.FromResult(
        store.State.Version == version ? null : new AccountDirectory { Version = store.State.Version, Accounts = store.State.Accounts });

    /// <inheritdoc />
    public Task<AccountChange> Create(string account, AccountSettings settings, CancellationToken cancellationToken = default) =>
        ApplyAsync(AccountTable.Create(store.State, account, settings, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<AccountChange> Set(string account, AccountSettings settings, CancellationToken cancellationToken = default) =>
        ApplyAsync(AccountTable.Set(store.State, account, settings, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<AccountChange> AddKey(
        string account, AccountKey key, string? replaced, DateTimeOffset replacedUntil, CancellationToken cancellationToken = default) =>
        ApplyAsync(AccountTable.AddKey(store.State, account, key, replaced, replacedUntil, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<AccountChange> DisableKey(string account, string key, bool disabled, CancellationToken cancellationToken = default) =>
        ApplyAsync(AccountTable.DisableKey(store.State, account, key, disabled, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<AccountChange> RemoveKey(string account, string key, CancellationToken cancellationToken = default) =>
        ApplyAsync(AccountTable.RemoveKey(store.State, account, key, clock.GetUtcNow()));

    private async Task<AccountChange> ApplyAsync((AccountsState Next, AccountChange Answer) change)
    {
        if (change.Answer == AccountChange.Done)
        {
            store.State = change.Next;
            try
            {
                await store.WriteStateAsync(CancellationToken.None);
            }
            catch
            {
                // A failed write may have landed: reload, never guess.
                this.DeactivateOnIdle();
                throw;
            }
        }

        return change.Answer;
    }
}
