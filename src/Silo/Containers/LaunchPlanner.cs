using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Containers;

/// <summary>Labels by which a node finds its containers again, and people find out what they are.</summary>
internal static class Labels
{
    public const string Node = "gputasks.node";
    public const string Account = "gputasks.account";
    public const string Function = "gputasks.function";
    public const string Instance = "gputasks.instance";
    public const string Revision = "gputasks.revision";
    public const string NodeEpoch = "gputasks.node-epoch";
    public const string Cards = "gputasks.cards";
    public const string SpecHash = "gputasks.spec-hash";
    public const string Platform = "gputasks.platform";
}

/// <summary>Where a launch's files are.</summary>
/// <param name="Box">Shared folder.</param>
/// <param name="Relay">Relay binary.</param>
internal sealed record LaunchPlaces(string Box, string Relay);

/// <summary>Turns an order, an image and the node's rules into what the engine and the relay are told. No I/O.</summary>
internal static class LaunchPlanner
{
    /// <summary>Without effect here, but functions may read them (contract 5).</summary>
    private static readonly (string Field, string Header)[] LogHeaders = [("project", "x-fc-service-logproject"), ("logstore", "x-fc-service-logstore")];

    /// <summary>A streamed answer is asked for at least every 10 s while somebody wants it; a restart of the node's silo is well within this.</summary>
    private static readonly TimeSpan UnreadLimit = TimeSpan.FromMinutes(2);

    private const string BoxInside = "/.gputasks";
    private const string RelayInside = "/.gputasks-relay";

    /// <summary>Names through which a function could reach cards it was not given, or change the hand-over's own programs.</summary>
    private static bool IsForbidden(string name) =>
        name.StartsWith("NVIDIA_", StringComparison.OrdinalIgnoreCase)
        || name.StartsWith("CUDA_MPS_", StringComparison.OrdinalIgnoreCase)
        || name is "AMD_VISIBLE_DEVICES" or "LD_PRELOAD";

    /// <summary>Why this node cannot launch the order, whatever the image is; null if it can.</summary>
    public static LaunchFailure? Refuse(LaunchOrder order, NodeOptions options) =>
        WantsEgress(order.Spec, options) && string.IsNullOrEmpty(options.EgressNetwork)
            ? new LaunchFailure(
                RunOutcome.ImageError,
                $"The function asks for internetAccess, but node '{options.Name}' offers no egress network. Set internetAccess to false, or ask the operator to configure one.")
            : null;

    /// <summary>What the engine is told.</summary>
    /// <param name="order">The order.</param>
    /// <param name="image">Its image.</param>
    /// <param name="places">Its files.</param>
    /// <param name="options">The node's rules.</param>
    /// <param name="hostProcessors">Processors that the engine has.</param>
    /// <param name="cards">The lease's real cards and how they get in.</param>
    /// <exception cref="EngineException">The image has no start command or is for another system.</exception>
    public static ContainerPlan Plan(LaunchOrder order, ImageInfo image, LaunchPlaces places, NodeOptions options, int hostProcessors, HandOver cards)
    {
        var spec = order.Spec;
        var lease = order.Lease;
        // As everywhere with containers: who names another start command does not get the image's arguments.
        var entrypoint = spec.Container.Entrypoint is { Count: > 0 } own ? own : image.Entrypoint;
        var command = spec.Container.Command is { Count: > 0 } arguments
            ? arguments
            : spec.Container.Entrypoint.Count > 0 ? [] : image.Command;
        if (entrypoint.Count + command.Count == 0)
        {
            throw new EngineException(EngineFault.ImageCannotStart, $"Image '{spec.Container.Image}' has no start command, and the function names none.");
        }

        if (image.Os is not ("" or "linux"))
        {
            throw new EngineException(EngineFault.ImageCannotStart, $"Image '{spec.Container.Image}' is for {image.Os}; needed is linux.");
        }

        var memory = (long)spec.MemoryMiB << 20;
        return new ContainerPlan
        {
            Name = lease.InstanceId,
            Image = image.Id, // By id, so that a tag that moves meanwhile changes nothing.
            Entrypoint = [RelayInside, "--", .. entrypoint],
            Command = command,
            Environment = EnvironmentOf(order, options, cards),
            Labels = LabelsOf(order, options),
            Binds = [$"{places.Box}:{BoxInside}", $"{places.Relay}:{RelayInside}:ro"],
            MemoryBytes = memory,
            NanoCpus = (long)(Math.Clamp(spec.Cpu, 0.01, hostProcessors) * 1_000_000_000),
            // Data loaders of the usual frameworks pass batches through it; it counts as the container's memory.
            SharedMemoryBytes = Math.Max(64L << 20, memory / 2),
            PidsLimit = options.PidsLimit,
            Network = WantsEgress(spec, options) ? options.EgressNetwork! : "none",
            ReadOnlyRoot = options.ReadOnlyRoot,
            Cards = cards,
        };
    }

    /// <summary>What the relay is told about its instance.</summary>
    public static RelayConfig Configure(LaunchOrder order, NodeOptions options, TimeSpan contactAge = default)
    {
        var spec = order.Spec;
        return new RelayConfig
        {
            InstanceId = order.Lease.InstanceId,
            Epoch = order.Lease.NodeEpoch,
            Port = spec.Container.Port,
            StartupTimeoutMs = (int)options.StartupTimeout.TotalMilliseconds,
            HealthCheck = spec.Container.HealthCheck is { } check
                ? new RelayHealthCheck(
                    check.HttpGetUrl,
                    check.InitialDelaySeconds * 1_000,
                    check.PeriodSeconds * 1_000,
                    check.TimeoutSeconds * 1_000,
                    check.FailureThreshold,
                    check.SuccessThreshold)
                : null,
            Initializer = spec.Initializer is { } initializer ? new RelayHook(initializer.TimeoutSeconds * 1_000) : null,
            PreStop = spec.PreStop is { } preStop ? new RelayHook(preStop.TimeoutSeconds * 1_000) : null,
            Headers = HeadersOf(order, options),
            GraceMs = (int)options.StopGrace.TotalMilliseconds,
            LogBytes = options.LogBytes,
            LogSegmentBytes = Math.Max(16 << 10, options.LogBytes / 4),
            MaxResponseBytes = RunReports.SyncResponseLimit,
            Concurrency = spec.InstanceConcurrency,
            NodeLostTimeoutMs = spec.NodeLostTimeoutSeconds * 1_000L,
            ContactAgeMs = (long)contactAge.TotalMilliseconds,
        };
    }

    /// <summary>What the relay is told about one run.</summary>
    public static RelayOrder Order(RunOrder order, long epoch, string context)
    {
        var headers = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["content-type"] = "application/octet-stream",
            ["x-fc-control-path"] = "/invoke",
            ["x-fc-request-id"] = order.RequestId,
            ["x-fc-qualifier"] = order.Qualifier,
            ["x-fc-retry-count"] = order.RetryCount.ToString(CultureInfo.InvariantCulture),
        };
        if (order.Recorded && order.Task is { } task)
        {
            headers["x-fc-async-task-id"] = task.TaskId;
        }

        var limit = (long)Math.Clamp(order.Limit.TotalMilliseconds, 1, int.MaxValue);
        if (order.Http is not { } http)
        {
            return new RelayOrder(epoch, "/invoke", "POST", headers, limit, context);
        }

        // The caller's own come first, so that none of them can stand for one of the platform's.
        var all = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var group in http.Headers.GroupBy(field => field.Name, StringComparer.OrdinalIgnoreCase))
        {
            all[group.Key] = string.Join(group.Key.Equals("cookie", StringComparison.OrdinalIgnoreCase) ? "; " : ", ", group.Select(field => field.Value));
        }

        headers.Remove("content-type");
        headers["x-fc-control-path"] = "/http-invoke";
        headers["x-fc-base-path"] = http.BasePath;
        foreach (var (name, value) in headers)
        {
            all[name] = value;
        }

        return new RelayOrder(epoch, http.Target, http.Method, all, limit, context, AnswerHeaders: true)
        {
            Streams = order.Streams,
            BodyBytes = order.BodyBytes,
            UnreadMs = order.Streams ? (long)UnreadLimit.TotalMilliseconds : 0,
        };
    }

    private static bool WantsEgress(FunctionSpec spec, NodeOptions options) => spec.InternetAccess ?? options.InternetAccessByDefault;

    private static List<string> EnvironmentOf(LaunchOrder order, NodeOptions options, HandOver cards)
    {
        var spec = order.Spec;
        var port = spec.Container.Port.ToString(CultureInfo.InvariantCulture);
        var ours = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["FC_FUNC_CODE_PATH"] = "/code",
            ["FC_ACCOUNT_ID"] = order.Lease.Account,
            ["FC_FUNCTION_NAME"] = spec.Name,
            ["FC_FUNCTION_HANDLER"] = spec.Handler,
            ["FC_FUNCTION_MEMORY_SIZE"] = spec.MemoryMiB.ToString(CultureInfo.InvariantCulture),
            ["FC_REGION"] = options.Region,
            ["FC_CUSTOM_LISTEN_PORT"] = port,
            ["FC_SERVER_PORT"] = port,
            ["FC_INSTANCE_ID"] = order.Lease.InstanceId,
            ["FC_QUALIFIER"] = order.Version ?? "LATEST",
            ["FC_FUNCTION_VERSION"] = order.Version ?? "LATEST",
            ["FC_VER_ID"] = order.Version ?? "LATEST",
            // Written always: images bring their own.
            ["NVIDIA_VISIBLE_DEVICES"] = cards.VisibleDevices,
        };
        if (cards.CardUuids.Count > 0)
        {
            ours["NVIDIA_DRIVER_CAPABILITIES"] = cards.Capabilities;
        }

        if (order.Lease.Cards.Count > 0)
        {
            // Frameworks can keep themselves within it; nothing below MIG makes them.
            ours["GPU_MEMORY_LIMIT_MIB"] = order.Lease.Cards.Max(share => share.MemoryMiB).ToString(CultureInfo.InvariantCulture);
        }

        if (spec.Initializer is { } initializer)
        {
            ours["FC_INITIALIZER_HANDLER"] = initializer.Handler;
            ours["FC_INITIALIZATION_TIMEOUT"] = initializer.TimeoutSeconds.ToString(CultureInfo.InvariantCulture);
        }

        return
        [
            .. spec.Environment.Where(pair => !ours.ContainsKey(pair.Key) && !IsForbidden(pair.Key)).Select(pair => $"{pair.Key}={pair.Value}"),
            .. ours.Select(pair => $"{pair.Key}={pair.Value}"),
        ];
    }

    private static Dictionary<string, string> HeadersOf(LaunchOrder order, NodeOptions options)
    {
        var spec = order.Spec;
        var headers = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["x-fc-function-name"] = spec.Name,
            ["x-fc-function-handler"] = spec.Handler,
            ["x-fc-function-memory"] = spec.MemoryMiB.ToString(CultureInfo.InvariantCulture),
            ["x-fc-function-timeout"] = spec.TimeoutSeconds.ToString(CultureInfo.InvariantCulture),
            ["x-fc-region"] = options.Region,
            ["x-fc-account-id"] = order.Lease.Account,
            ["x-fc-version-id"] = order.Version ?? "LATEST",
        };
        if (spec.Initializer is { } initializer)
        {
            headers["x-fc-function-initializer"] = initializer.Handler;
            headers["x-fc-initialization-timeout"] = initializer.TimeoutSeconds.ToString(CultureInfo.InvariantCulture);
        }

        foreach (var (field, header) in LogHeaders)
        {
            if (spec.StoredFields.TryGetValue("logConfig", out var text) && TextOf(text, field) is { Length: > 0 } value)
            {
                headers[header] = value;
            }
        }

        if (spec.PreStop is { } preStop)
        {
            headers["x-fc-instance-lifecycle-pre-stop-handler"] = preStop.Handler;
        }

        return headers;
    }

    /// <summary>A text of a stored JSON object, or null.</summary>
    private static string? TextOf(string json, string field)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.ValueKind is JsonValueKind.Object && document.RootElement.TryGetProperty(field, out var value) && value.ValueKind is JsonValueKind.String
            ? value.GetString()
            : null;
    }

    private static Dictionary<string, string> LabelsOf(LaunchOrder order, NodeOptions options) => new(StringComparer.Ordinal)
    {
        [Labels.Node] = options.Name,
        [Labels.Account] = order.Lease.Account,
        [Labels.Function] = order.Lease.Function,
        [Labels.Instance] = order.Lease.InstanceId,
        [Labels.Revision] = order.Revision.ToString(CultureInfo.InvariantCulture),
        [Labels.NodeEpoch] = order.Lease.NodeEpoch.ToString(CultureInfo.InvariantCulture),
        [Labels.Cards] = string.Join(',', order.Lease.Cards.Select(card => string.Create(CultureInfo.InvariantCulture, $"{card.Uuid}={card.MemoryMiB}@{card.Epoch}"))),
        [Labels.SpecHash] = Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(order.Spec))),
        [Labels.Platform] = typeof(LaunchPlanner).Assembly.GetName().Version?.ToString(3) ?? "0",
    };
}
