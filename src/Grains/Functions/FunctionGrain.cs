using GpuTasks.Dispatch;
using GpuTasks.Store;
using GpuTasks.Triggers;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Functions;

/// <summary>
/// What a function is, with its versions and aliases: one row, so that no change can be half done. Each change is written
/// first and then told to the dispatchers, which read it again.
/// </summary>
[GrainType("function")]
public sealed class FunctionGrain(
    [PersistentState(StoreNames.Function, StoreNames.Provider)] IPersistentState<FunctionState> store,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : Grain, IFunctionGrain
{
    private string Account => this.GetPrimaryKeyString().Split('/')[0];

    private string Name => this.GetPrimaryKeyString().Split('/')[1];

    /// <inheritdoc />
    public Task<FunctionChange> Create(FunctionSpec spec, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.Create(store.State, Account, spec, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<FunctionSnapshot?> Get(CancellationToken cancellationToken = default) => Task.FromResult(store.State.Function);

    /// <inheritdoc />
    public Task<FunctionSnapshot?> GetQualified(string qualifier, string pick, CancellationToken cancellationToken = default) =>
        Task.FromResult(Qualifiers.Resolve(store.State, qualifier, pick));

    /// <inheritdoc />
    public Task<FunctionChange> Update(FunctionSpec spec, int expectedRevision, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.Update(store.State, spec, expectedRevision, clock.GetUtcNow()));

    /// <inheritdoc />
    public async Task<FunctionChange> Delete(CancellationToken cancellationToken = default)
    {
        if (store.State.Function is not { } gone)
        {
            return FunctionChange.NotFound;
        }

        await WriteAsync(store.ClearStateAsync);
        store.State = new FunctionState();
        TellDispatchers(gone.Versions.Select(version => version.VersionId));
        GrainFactory.GetGrain<ITriggersGrain>(this.GetPrimaryKeyString()).FunctionDeleted(gone.FunctionId, CancellationToken.None).Ignore();
        return FunctionChange.Done;
    }

    /// <inheritdoc />
    public Task<FunctionChange> SetAsyncConfig(
        string qualifier, AsyncInvokeConfig? config, int expectedRevision, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.SetAsyncConfig(store.State, qualifier, config, expectedRevision, clock.GetUtcNow()));

    /// <inheritdoc />
    public async Task<PublishAnswer> PublishVersion(string description, CancellationToken cancellationToken = default)
    {
        var (next, answer) = FunctionCore.Publish(store.State, description, clock.GetUtcNow());
        await ApplyAsync((next, answer.Change));
        return answer;
    }

    /// <inheritdoc />
    public async Task<FunctionChange> SetCapacity(FunctionCapacity capacity, int expectedRevision, CancellationToken cancellationToken = default)
    {
        var decided = FunctionCore.SetCapacity(store.State, capacity, expectedRevision);
        if (decided.Outcome is FunctionChange.Done && capacity.IsSet)
        {
            // Before it is written: what is kept for nothing ends by itself, what is not kept for something would not begin.
            await GrainFactory.GetGrain<ICapacityKeeperGrain>(this.GetPrimaryKeyString()).Watch(cancellationToken);
        }

        return await ApplyAsync(decided);
    }

    /// <inheritdoc />
    public Task<FunctionChange> DeleteVersion(string version, int expectedRevision, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.DeleteVersion(store.State, version, expectedRevision));

    /// <inheritdoc />
    public Task<FunctionChange> SetAlias(string name, FunctionAlias? alias, int expectedRevision, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.SetAlias(store.State, name, alias, expectedRevision, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<FunctionChange> SetRestriction(InvocationRestriction restriction, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.SetRestriction(store.State, restriction, clock.GetUtcNow()));

    /// <inheritdoc />
    public async Task<FunctionChange> SetResolvedImage(string? version, int specRevision, string image, CancellationToken cancellationToken = default)
    {
        // Whoever tells it knows it already, so nobody else is told.
        var (next, outcome) = FunctionCore.SetResolvedImage(store.State, version, specRevision, image);
        if (outcome is FunctionChange.Done)
        {
            store.State = next;
            await WriteAsync(store.WriteStateAsync);
        }

        return outcome;
    }

    /// <inheritdoc />
    public Task<FunctionChange> SetTags(IReadOnlyDictionary<string, string> tags, int expectedRevision, CancellationToken cancellationToken = default) =>
        ApplyAsync(FunctionCore.SetTags(store.State, tags, expectedRevision));

    private async Task<FunctionChange> ApplyAsync((FunctionState Next, FunctionChange Outcome) decided)
    {
        if (decided.Outcome is FunctionChange.Done)
        {
            var (before, after) = (store.State.Function, decided.Next.Function!);
            store.State = decided.Next;
            await WriteAsync(store.WriteStateAsync);
            // A version that nobody calls has no activation, and few changes concern it.
            var versions = before is null ? [] : before.Versions.Select(version => version.VersionId);
            TellDispatchers(before?.Restriction != after.Restriction
                ? versions
                : versions.Except(after.Versions.Select(version => version.VersionId)).Concat((before?.VersionsKept ?? []).Union(after.VersionsKept)));
        }

        return decided.Outcome;
    }

    private async Task WriteAsync(Func<CancellationToken, Task> write)
    {
        try
        {
            await write(CancellationToken.None);
        }
        catch
        {
            // A failed write may have landed: reload, never guess.
            this.DeactivateOnIdle();
            throw;
        }
    }

    private void TellDispatchers(IEnumerable<string?> versions)
    {
        foreach (var version in versions.Append(null).Distinct())
        {
            GrainFactory.GetGrain<IDispatcherGrain>(new DefinitionKey(Account, Name, version).ToString()).FunctionChanged().Ignore();
        }
    }
}
