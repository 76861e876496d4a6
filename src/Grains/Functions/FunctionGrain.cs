using GpuTasks.Dispatch;
using GpuTasks.Store;
using GpuTasks.Triggers;
using Microsoft.Extensions.DependencyInjection;

namespace GpuTasks.Functions;

/// <summary>What a function is. Each change is written first and then told to the dispatcher, which reads it again.</summary>
[GrainType("function")]
public sealed class FunctionGrain(
    [PersistentState(StoreNames.Function, StoreNames.Provider)] IPersistentState<FunctionState> store,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock) : Grain, IFunctionGrain
{
    private FunctionSnapshot? Current => store.State.Function;

    /// <inheritdoc />
    public async Task<FunctionChange> Create(FunctionSpec spec, CancellationToken cancellationToken = default)
    {
        if (Current is not null)
        {
            return FunctionChange.AlreadyExists;
        }

        var now = clock.GetUtcNow();
        await SaveAsync(new FunctionSnapshot
        {
            Account = this.GetPrimaryKeyString().Split('/')[0],
            Spec = spec,
            FunctionId = Guid.NewGuid().ToString(),
            Revision = 1,
            SpecRevision = 1,
            CreatedAt = now,
            ModifiedAt = now,
        });
        return FunctionChange.Done;
    }

    /// <inheritdoc />
    public Task<FunctionSnapshot?> Get(CancellationToken cancellationToken = default) => Task.FromResult(Current);

    /// <inheritdoc />
    public async Task<FunctionChange> Update(FunctionSpec spec, int expectedRevision, CancellationToken cancellationToken = default)
    {
        if (Refusal(expectedRevision) is { } refusal)
        {
            return refusal;
        }

        var revision = Current!.Revision + 1;
        await SaveAsync(Current with { Spec = spec, Revision = revision, SpecRevision = revision, ModifiedAt = clock.GetUtcNow() });
        return FunctionChange.Done;
    }

    /// <inheritdoc />
    public async Task<FunctionChange> Delete(CancellationToken cancellationToken = default)
    {
        if (Current is null)
        {
            return FunctionChange.NotFound;
        }

        var functionId = Current.FunctionId;
        await WriteAsync(store.ClearStateAsync);
        store.State = new FunctionState();
        TellDispatcher();
        GrainFactory.GetGrain<ITriggersGrain>(this.GetPrimaryKeyString()).FunctionDeleted(functionId, CancellationToken.None).Ignore();
        return FunctionChange.Done;
    }

    /// <inheritdoc />
    public async Task<FunctionChange> SetAsyncConfig(
        string qualifier, AsyncInvokeConfig? config, int expectedRevision, CancellationToken cancellationToken = default)
    {
        if (Refusal(expectedRevision) is { } refusal)
        {
            return refusal;
        }

        var configs = new Dictionary<string, AsyncInvokeConfig>(Current!.AsyncConfigs);
        if (config is null && !configs.Remove(qualifier))
        {
            return FunctionChange.NotFound;
        }

        if (config is not null)
        {
            var now = clock.GetUtcNow();
            var createdAt = configs.TryGetValue(qualifier, out var before) ? before.CreatedAt : now;
            configs[qualifier] = config with { CreatedAt = createdAt, ModifiedAt = now };
        }

        await SaveAsync(Current with { AsyncConfigs = configs, Revision = Current.Revision + 1 });
        return FunctionChange.Done;
    }

    /// <inheritdoc />
    public async Task<FunctionChange> SetCapacity(FunctionCapacity capacity, int expectedRevision, CancellationToken cancellationToken = default)
    {
        if (Refusal(expectedRevision) is { } refusal)
        {
            return refusal;
        }

        if (capacity.IsSet)
        {
            // Before it is written: what is kept for nothing ends by itself, what is not kept for something would not begin.
            await GrainFactory.GetGrain<ICapacityKeeperGrain>(this.GetPrimaryKeyString()).Watch(cancellationToken);
        }

        await SaveAsync(Current! with { Capacity = capacity, Revision = Current.Revision + 1 });
        return FunctionChange.Done;
    }

    private FunctionChange? Refusal(int expectedRevision) =>
        Current is null ? FunctionChange.NotFound : Current.Revision != expectedRevision ? FunctionChange.Conflict : null;

    private async Task SaveAsync(FunctionSnapshot next)
    {
        store.State = new FunctionState { Function = next };
        await WriteAsync(store.WriteStateAsync);
        TellDispatcher();
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

    private void TellDispatcher() => GrainFactory.GetGrain<IDispatcherGrain>(this.GetPrimaryKeyString()).FunctionChanged().Ignore();
}
