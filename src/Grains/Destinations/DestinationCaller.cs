using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Tasks;
using Microsoft.Extensions.Options;

namespace GpuTasks.Destinations;

/// <summary>Tells destinations. Today they are functions of the same account, called asynchronously.</summary>
/// <param name="grains">Way to the functions.</param>
/// <param name="options">Region.</param>
public sealed class DestinationCaller(IGrainFactory grains, IOptions<DispatcherOptions> options)
{
    /// <summary>Deliveries after deliveries that one submit may cause; more is a loop.</summary>
    public const int MaxHops = 16;

    /// <summary>Delivers once. Safe to repeat: the target's task has an id made of the delivery's.</summary>
    /// <returns>Null if it is done; else why it cannot be done now, or ever.</returns>
    public async Task<DeliveryFault?> DeliverAsync(TaskState state)
    {
        var (key, entry) = (state.Key!.Value, state.Outbox!);
        if (!FunctionArn.TryParse(entry.Target, out var arn) || (arn.Account.Length > 0 && arn.Account != key.Account))
        {
            return new DeliveryFault(Final: true, $"'{entry.Target}' is no function of this account.");
        }

        if (state.Submission!.Hops >= MaxHops)
        {
            return new DeliveryFault(Final: true, $"{MaxHops} destinations have called one another: this is taken for a loop.");
        }

        var function = await grains.GetGrain<IFunctionGrain>($"{key.Account}/{arn.Function}").GetQualified(arn.Qualifier, entry.DeliveryId);
        if (function is null or { Restriction.Disabled: true })
        {
            return new DeliveryFault(Final: false, $"Function '{arn.Function}' with qualifier '{arn.Qualifier}' does not exist or takes no calls.");
        }

        var config = function.AsyncConfigs.GetValueOrDefault(arn.Qualifier) ?? new AsyncInvokeConfig();
        var target = new TaskKey(key.Account, arn.Function, DestinationMessage.TaskIdOf(entry));
        // AlreadyExists is the answer to a repeat whose first answer was lost.
        await grains.GetGrain<ITaskGrain>(target.ToString()).Submit(new TaskSubmission
        {
            RequestId = Guid.NewGuid().ToString(),
            Qualifier = arn.Qualifier,
            Version = function.Version,
            Payload = DestinationMessage.Of(state, options.Value.Region),
            Recorded = config.TaskMode,
            MaxRetryAttempts = config.MaxRetryAttempts,
            MaxEventAge = TimeSpan.FromSeconds(config.MaxEventAgeSeconds),
            OnSuccess = config.OnSuccess,
            OnFailure = config.OnFailure,
            Hops = state.Submission.Hops + 1,
        });
        return null;
    }
}

/// <summary>Why a delivery was not made.</summary>
/// <param name="Final">True when trying again cannot help.</param>
/// <param name="Message">For people.</param>
public sealed record DeliveryFault(bool Final, string Message);
