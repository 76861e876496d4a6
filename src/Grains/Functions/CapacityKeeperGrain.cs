using GpuTasks.Dispatch;

namespace GpuTasks.Functions;

/// <summary>A reminder a minute, nothing else: what is to be there is the function's to say and the dispatcher's to do.</summary>
[GrainType("capacity-keeper")]
public sealed class CapacityKeeperGrain : Grain, ICapacityKeeperGrain, IRemindable
{
    private const string Name = "capacity";
    private static readonly TimeSpan Period = TimeSpan.FromMinutes(1);

    /// <inheritdoc />
    public Task Watch(CancellationToken cancellationToken = default) => this.RegisterOrUpdateReminder(Name, Period, Period, CancellationToken.None);

    /// <inheritdoc />
    public async Task ReceiveReminder(string reminderName, TickStatus status)
    {
        var key = this.GetPrimaryKeyString();
        if (await GrainFactory.GetGrain<IFunctionGrain>(key).Get() is { Capacity.IsSet: true } function)
        {
            foreach (var version in function.VersionsKept.Append(null).Distinct())
            {
                GrainFactory.GetGrain<IDispatcherGrain>((function.Definition with { Version = version }).ToString()).LeasesChanged().Ignore();
            }
        }
        else if (await this.GetReminder(Name) is { } reminder)
        {
            await this.UnregisterReminder(reminder);
        }
    }
}
