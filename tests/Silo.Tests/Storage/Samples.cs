using System.Diagnostics.CodeAnalysis;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Storage;

/// <summary>States with every member set to something that is not its default.</summary>
internal static class Samples
{
    public static readonly DateTimeOffset Noon = new(2026, 3, 1, 12, 0, 0, 123, TimeSpan.Zero);

    /// <summary>Attributes cannot carry half a character, so they name it.</summary>
    public static string WithLoneSurrogate(string text) => text.Replace("<lone>", "\ud800", StringComparison.Ordinal);

    public static string NewAccount() => $"acc{Guid.NewGuid():N}";

    public static TaskState Waiting(TaskKey key, DateTimeOffset? at = null, int priority = 0, string qualifier = "LATEST", bool recorded = true) => new()
    {
        Key = key,
        Submission = new TaskSubmission { RequestId = $"1-{key.TaskId}", Qualifier = qualifier, Payload = [1, 2, 3], Priority = priority, Recorded = recorded },
        Status = GpuTaskStatus.Enqueued,
        Pending = TaskEffects.JoinQueue,
        EnqueuedAt = at ?? Noon,
        QueueDeadline = (at ?? Noon).AddDays(1),
        WakeAt = (at ?? Noon).AddDays(1),
    };

    public static FunctionState Function(string account, string name) => new()
    {
        Function = new FunctionSnapshot
        {
            Account = account,
            Spec = new FunctionSpec { Name = name, Container = new ContainerSpec { Image = "registry.example/speech:1" } },
            FunctionId = "f-1",
            Revision = 1,
            SpecRevision = 1,
        },
    };

    public static TaskState FullTask() => new()
    {
        Key = new TaskKey("1001", "speech", "job_1"),
        Submission = new TaskSubmission
        {
            RequestId = "1-65ef-12",
            Qualifier = "prod",
            Payload = [0, 255, 254, 62, 63],
            Recorded = false,
            Priority = 7,
            MaxRetryAttempts = 8,
            MaxEventAge = TimeSpan.FromSeconds(604_800),
            Hops = 2,
            Version = "3",
            Http = new HttpCall { Method = "PUT", Target = "/a?b=é", BasePath = "/base", Headers = [new HttpField("x", "y")] },
            OnSuccess = "http://a.example/ok?x=1&y=\"é\"",
            OnFailure = "http://a.example/bad",
        },
        Status = GpuTaskStatus.Retrying,
        Pending = TaskEffects.FreeSlot | TaskEffects.Notify,
        EnqueuedAt = Noon.AddTicks(1),
        QueueDeadline = Noon.AddDays(7),
        WakeAt = Noon.AddHours(1),
        Attempt = 3,
        CountedFailures = 2,
        PlatformFaults = 1,
        Retries = 2,
        Slot = new SlotAssignment { SlotId = "s-9", Node = "gpu-1", InstanceId = "i-4", RunLimit = TimeSpan.FromHours(24), Revision = 5 },
        Overdue = true,
        OrderChecked = true,
        RunStartedAt = Noon.AddMinutes(1),
        EndedAt = Noon.AddMinutes(2),
        Duration = TimeSpan.FromMilliseconds(59_999.5),
        Outcome = RunOutcome.GpuOutOfMemory,
        ErrorMessage = "out of memory\0 \u001b[31m 中文 🎤",
        Result = [9, 8, 7],
        ResultTruncated = true,
        LastFailedLaunch = "i-3",
        DestinationStatus = "Failed",
        Outbox = new OutboxEntry("d-1", "http://a.example/bad", 4) { Pauses = 5, Fault = "away", ReplayedAt = Noon },
        DeadLetter = new DeadLetter("d-1", "http://a.example/bad", 4, "gone", Noon),
        Events =
        [
            new TaskEventRecord(1, GpuTaskStatus.Enqueued, Noon, ""),
            new TaskEventRecord(2, GpuTaskStatus.Running, Noon.AddMinutes(1), "{\"Error\":\"FunctionError\"}"),
        ],
    };

    /// <summary>As a row has it that leaves large parts out.</summary>
    public static TaskState StoredTask() => FullTask() with { Blobs = new Dictionary<string, string> { ["payload"] = "b-1" } };

    public static FunctionState FullFunction() => new()
    {
        Function = new FunctionSnapshot
        {
            Account = "1001",
            Spec = new FunctionSpec
            {
                Name = "speech",
                Description = "speech to text",
                Runtime = "custom-container",
                Handler = "index.handler",
                Cpu = 0.35,
                MemoryMiB = 1024,
                DiskMiB = 10_240,
                Gpu = new GpuSpec("fc.gpu.tesla.1", 16_384),
                TimeoutSeconds = 86_400,
                InstanceConcurrency = 20,
                Environment = new Dictionary<string, string> { ["GRAMMAR"] = "#JSGF V1.0;\n<x>" },
                Container = new ContainerSpec
                {
                    Image = "registry.example/speech:1",
                    Port = 8080,
                    Entrypoint = ["/server"],
                    Command = ["--a", "b c"],
                    HealthCheck = new HealthCheckSpec
                    {
                        HttpGetUrl = "/ready",
                        InitialDelaySeconds = 1,
                        PeriodSeconds = 2,
                        TimeoutSeconds = 3,
                        FailureThreshold = 4,
                        SuccessThreshold = 5,
                    },
                    RegistryUser = "u",
                    RegistryPassword = "p",
                },
                Initializer = new HookSpec("init", 300),
                PreStop = new HookSpec("stop", 90),
                InternetAccess = false,
                IdleTimeoutSeconds = 60,
                StoredFields = new Dictionary<string, string> { ["vpcConfig"] = "{\"vpcId\":\"v\"}" },
                Tags = new Dictionary<string, string> { ["team"] = "audio" },
            },
            FunctionId = "f-7",
            Revision = 4,
            SpecRevision = 3,
            CreatedAt = Noon,
            ModifiedAt = Noon.AddDays(1),
            AsyncConfigs = new Dictionary<string, AsyncInvokeConfig>
            {
                ["prod"] = new()
                {
                    TaskMode = true,
                    MaxRetryAttempts = 1,
                    MaxEventAgeSeconds = 60,
                    OnSuccess = "http://a.example/ok",
                    OnFailure = "http://a.example/bad",
                    CreatedAt = Noon,
                    ModifiedAt = Noon.AddSeconds(1),
                },
            },
            Capacity = new FunctionCapacity
            {
                ReservedConcurrency = 7,
                Provision = new Dictionary<string, ProvisionConfig> { ["LATEST"] = new() { Plan = Plan(), AlwaysAllocateCpu = true, AlwaysAllocateGpu = true } },
                Scaling = new Dictionary<string, ScalingConfig> { ["LATEST"] = new() { Plan = Plan(), OnDemand = false, Balanced = true } },
            },
            Versions = [new FunctionVersion("3", "third", Noon)],
            Aliases = new Dictionary<string, FunctionAlias>
            {
                ["prod"] = new() { VersionId = "3", Description = "served", AdditionalWeights = new Dictionary<string, double> { ["2"] = 0.25 }, CreatedAt = Noon, ModifiedAt = Noon.AddSeconds(2) },
            },
            Restriction = new InvocationRestriction { Disabled = true, Abort = true, Reason = "maintenance", ModifiedAt = Noon },
            Version = "3",
            ResolvedImage = "registry.example/speech@sha256:1",
        },
        Published = [new PublishedDefinition("3", new FunctionSpec { Name = "speech", Container = new ContainerSpec { Image = "registry.example/speech:3", RegistryPassword = "p" } }, 2, Noon) { ResolvedImage = "registry.example/speech@sha256:3" }],
        LastVersion = 3,
    };

    private static InstancePlan Plan() => new(
        2,
        [new ScheduledTarget("day", "cron(0 0 8 * * *)", "0 0 8 * * *", null, 5, new PlanPeriod(Noon, Noon.AddDays(1), "from", "until", "Asia/Shanghai"))],
        [new TrackingPolicy("use", "ProvisionedConcurrencyUtilization", 0.6, 1, 9, new PlanPeriod(null, null, null, null, null))]);
}

/// <summary>What a grain holds of its row.</summary>
internal sealed class Stored<T>(T state) : IGrainState<T>
    where T : new()
{
    public Stored()
        : this(new T())
    {
    }

    [AllowNull]
    public T State
    {
        get;
        set => field = value ?? new T();
    } = state;

    public string? ETag { get; set; }

    public bool RecordExists { get; set; }
}
