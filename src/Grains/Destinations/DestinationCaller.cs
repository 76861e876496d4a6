using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;

namespace GpuTasks.Destinations;

/// <summary>Tells destinations: functions of the same account, called asynchronously; webhooks; internal topics of the same account.</summary>
/// <param name="grains">Way to functions and secrets.</param>
/// <param name="webhooks">Sends webhooks.</param>
/// <param name="topics">Keeps topics.</param>
/// <param name="clock">Clock.</param>
/// <param name="options">Region.</param>
public sealed class DestinationCaller(
    IGrainFactory grains,
    IWebhookSender webhooks,
    ITopicStore topics,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    IOptions<DispatcherOptions> options)
{
    /// <summary>Deliveries after deliveries that one submit may cause; more is a loop.</summary>
    public const int MaxHops = 16;

    /// <summary>Delivers once. Safe to repeat: each kind of target can tell a repeat by the delivery's id.</summary>
    /// <returns>Null if it is done; else why it cannot be done now, or ever.</returns>
    public async Task<DeliveryFault?> DeliverAsync(TaskState state)
    {
        var (account, text) = (state.Key!.Value.Account, state.Outbox!.Target);
        if (!DestinationTarget.TryParse(text, out var target))
        {
            return new DeliveryFault(Final: true, $"'{text}' is no destination.");
        }

        if (target.Account.Length > 0 && target.Account != account)
        {
            return new DeliveryFault(Final: true, $"'{text}' is not of this account.");
        }

        return target switch
        {
            { Function: { } arn } => await CallAsync(state, arn),
            { Webhook: { } url } => await SendAsync(state, url),
            _ => await PublishAsync(state, target.Topic!),
        };
    }

    private async Task<DeliveryFault?> CallAsync(TaskState state, FunctionArn arn)
    {
        var (account, entry) = (state.Key!.Value.Account, state.Outbox!);
        if (state.Submission!.Hops >= MaxHops)
        {
            return new DeliveryFault(Final: true, $"{MaxHops} destinations have called one another: this is taken for a loop.");
        }

        var function = await grains.GetGrain<IFunctionGrain>($"{account}/{arn.Function}").GetQualified(arn.Qualifier, entry.DeliveryId);
        if (function is null or { Restriction.Disabled: true })
        {
            return function is null
                ? new DeliveryFault(Final: true, $"Function '{arn.Function}' with qualifier '{arn.Qualifier}' does not exist.")
                : new DeliveryFault(Final: false, $"Function '{arn.Function}' takes no calls just now.");
        }

        var config = function.AsyncConfigs.GetValueOrDefault(arn.Qualifier) ?? new AsyncInvokeConfig();
        var target = new TaskKey(account, arn.Function, DestinationMessage.IdOf(entry.DeliveryId));
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

    private async Task<DeliveryFault?> SendAsync(TaskState state, Uri url)
    {
        var account = state.Key!.Value.Account;
        if (webhooks.Refuse(url) is { } refusal)
        {
            return new DeliveryFault(Final: true, refusal);
        }

        var secrets = await grains.GetGrain<IWebhooksGrain>(account).GetSigningSecrets();
        return await webhooks.SendAsync(new WebhookCall(
            account, url, DestinationMessage.IdOf(state.Outbox!.DeliveryId), DestinationMessage.Of(state, options.Value.Region), secrets));
    }

    private async Task<DeliveryFault?> PublishAsync(TaskState state, string topic) =>
        await topics.AppendAsync(
            state.Key!.Value.Account, topic, DestinationMessage.IdOf(state.Outbox!.DeliveryId), clock.GetUtcNow(), DestinationMessage.Of(state, options.Value.Region), CancellationToken.None)
            ? null
            : new DeliveryFault(Final: false, $"The account has {TopicLimits.MaxTopics} topics, as many as it may have.");
}

/// <summary>Why a delivery was not made.</summary>
/// <param name="Final">True when trying again cannot help.</param>
/// <param name="Message">For people.</param>
public sealed record DeliveryFault(bool Final, string Message)
{
    /// <summary>False if nothing was sent, because too much was on its way to that target or it is known to be away.</summary>
    public bool Tried { get; init; } = true;

    /// <summary>True if others to the same target would fare no better just now.</summary>
    public bool IsAway { get; init; }

    /// <summary>For how long the target is not to be tried, or null.</summary>
    public TimeSpan? RetryAfter { get; init; }
}
