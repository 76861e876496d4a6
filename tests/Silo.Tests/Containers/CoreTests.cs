using System.Net.Sockets;
using System.Text;
using GpuTasks.Containers;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Containers;

public sealed class FencingTests
{
    private static readonly DateTimeOffset Now = DateTimeOffset.UnixEpoch;

    private static Lease LeaseOf(string id, long epoch) => new() { InstanceId = id, Account = "1", Function = "f", Node = "n", NodeEpoch = epoch };

    [Fact]
    public void Before_any_directive_a_lease_is_good() => Assert.False(Fencing.IsStale(new LedgerState(), LeaseOf("a", 1)));

    [Fact]
    public void A_lease_that_the_last_directive_does_not_name_is_stale_up_to_its_number()
    {
        var state = Fencing.Apply(new LedgerState(), new NodeDirective([LeaseOf("a", 3)], 5), Now);
        Assert.False(Fencing.IsStale(state, LeaseOf("a", 3)));
        Assert.True(Fencing.IsStale(state, LeaseOf("b", 5)));
        Assert.False(Fencing.IsStale(state, LeaseOf("b", 6)));
    }

    [Fact]
    public void An_older_directive_changes_nothing()
    {
        var state = Fencing.Apply(new LedgerState(), new NodeDirective([LeaseOf("a", 3)], 5), Now);
        Assert.Same(state, Fencing.Apply(state, new NodeDirective([], 4), Now));
    }

    [Fact]
    public void The_same_directive_again_needs_no_write()
    {
        var state = Fencing.Apply(new LedgerState(), new NodeDirective([LeaseOf("b", 3), LeaseOf("a", 2)], 5), Now);
        Assert.Same(state, Fencing.Apply(state, new NodeDirective([LeaseOf("a", 2), LeaseOf("b", 3)], 5), Now));
    }

    [Fact]
    public void An_ended_lease_never_starts_even_with_a_younger_number()
    {
        var state = Fencing.End(new LedgerState(), "a", Now);
        Assert.True(Fencing.IsStale(state, LeaseOf("a", 100)));
        Assert.Same(state, Fencing.End(state, "a", Now));
    }

    [Fact]
    public void An_ended_lease_is_forgotten_only_when_the_number_refuses_it_and_time_has_passed()
    {
        var state = Fencing.End(new LedgerState(), "a", Now);
        state = Fencing.Apply(state, new NodeDirective([], 7), Now.AddMinutes(1));
        Assert.True(Fencing.IsEnded(state, "a"));
        Assert.True(Fencing.IsEnded(Fencing.Apply(state, new NodeDirective([LeaseOf("a", 7)], 7), Now.AddHours(1)), "a"));
        state = Fencing.Apply(state, new NodeDirective([], 7), Now.AddMinutes(11));
        Assert.False(Fencing.IsEnded(state, "a"));
        Assert.True(Fencing.IsStale(state, LeaseOf("a", 7)));
    }

    [Fact]
    public void The_ledger_survives_and_its_versions_grow()
    {
        using var folder = new TestFolder();
        var first = new NodeLedger(folder.Path);
        var version = first.NextVersion();
        first.Change(state => Fencing.Apply(Fencing.End(state, "x", Now), new NodeDirective([LeaseOf("a", 3)], 5), Now));
        var second = new NodeLedger(folder.Path);
        Assert.Equal(5, second.State.NodeEpoch);
        Assert.Equal(["a"], second.State.Leases);
        Assert.True(Fencing.IsEnded(second.State, "x"));
        Assert.True(second.NextVersion() > version);
    }
}

public sealed class CardSharesTests
{
    private static readonly CardReport[] Cards =
    [
        new() { Uuid = "c1", Type = "t", MemoryMiB = 100 },
        new() { Uuid = "c2", Type = "t", MemoryMiB = 100, State = CardState.Dirty, Detail = "old holder" },
    ];

    private static Lease LeaseOf(string id, params (string Uuid, int MiB)[] shares) => new()
    {
        InstanceId = id,
        Account = "1",
        Function = "f",
        Node = "n",
        Cards = [.. shares.Select(share => new CardShare(share.Uuid, share.MiB, 1, 1))],
    };

    [Fact]
    public void Shares_up_to_the_memory_fit() => Assert.Null(CardShares.Refuse(LeaseOf("b", ("c1", 40)), Cards, [LeaseOf("a", ("c1", 60))]));

    [Fact]
    public void Shares_beyond_the_memory_are_refused() => Assert.NotNull(CardShares.Refuse(LeaseOf("b", ("c1", 41)), Cards, [LeaseOf("a", ("c1", 60))]));

    [Fact]
    public void A_card_that_another_account_is_still_on_is_refused() =>
        Assert.NotNull(CardShares.Refuse(LeaseOf("b", ("c1", 40)), Cards, [LeaseOf("a", ("c1", 60)) with { Account = "2" }]));

    [Fact]
    public void Two_shares_of_one_lease_count_together() => Assert.NotNull(CardShares.Refuse(LeaseOf("b", ("c1", 60), ("c1", 60)), Cards, []));

    [Fact]
    public void The_lease_itself_does_not_count_against_it() => Assert.Null(CardShares.Refuse(LeaseOf("a", ("c1", 100)), Cards, [LeaseOf("a", ("c1", 100))]));

    [Theory]
    [InlineData("c2")]
    [InlineData("c3")]
    public void A_card_that_is_dirty_or_missing_is_refused(string uuid) => Assert.NotNull(CardShares.Refuse(LeaseOf("a", (uuid, 1)), Cards, []));

    [Fact]
    public void A_lease_without_cards_fits_always() => Assert.Null(CardShares.Refuse(LeaseOf("a"), [], []));
}

public sealed class RunReportsTests
{
    private static readonly RunRecord Record = new() { RunId = "t.1", LimitMs = 1_500 };

    [Fact]
    public void A_relay_that_does_not_say_so_is_not_taken_to_stream()
    {
        Assert.False(Box.Parse<RelayStatus>("{\"protocol\":1,\"state\":\"ready\",\"runs\":[]}"u8)!.Streams);
        Assert.True(Box.Parse<RelayStatus>("{\"protocol\":1,\"streams\":true}"u8)!.Streams);
    }

    [Fact]
    public void An_answer_that_nobody_asked_for_any_more_was_given_up_by_its_caller() =>
        Assert.Equal(RunOutcome.Cancelled, RunReports.Classify(Ended("unread"), Record, null, true).Outcome);

    private static RelayRun Ended(string outcome, int status = 0, string fcStatus = "", string message = "") =>
        new() { RunId = "t.1", State = "ended", Outcome = outcome, StatusCode = status, FcStatus = fcStatus, Message = message };

    [Theory]
    [InlineData(200, "", RunOutcome.Succeeded)]
    [InlineData(200, "200", RunOutcome.Succeeded)]
    [InlineData(201, "", RunOutcome.Succeeded)]
    [InlineData(400, "", RunOutcome.Succeeded)]
    [InlineData(200, "404", RunOutcome.FunctionError)]
    [InlineData(404, "", RunOutcome.FunctionError)]
    [InlineData(500, "", RunOutcome.FunctionError)]
    [InlineData(503, "200", RunOutcome.FunctionError)]
    public void An_answer_counts_by_its_status(int status, string fcStatus, RunOutcome outcome) =>
        Assert.Equal(outcome, RunReports.Classify(Ended("answered", status, fcStatus), Record, null, true).Outcome);

    [Theory]
    [InlineData("timed-out", RunOutcome.TimedOut)]
    [InlineData("crashed", RunOutcome.Crashed)]
    [InlineData("disconnected", RunOutcome.Crashed)]
    [InlineData("out-of-memory", RunOutcome.HostOutOfMemory)]
    [InlineData("something new", RunOutcome.Crashed)]
    public void Every_other_end_has_its_class(string outcome, RunOutcome expected)
    {
        var (found, message) = RunReports.Classify(Ended(outcome), Record, null, true);
        Assert.Equal(expected, found);
        Assert.NotEmpty(message);
    }

    [Fact]
    public void An_answer_that_arrived_stands_even_if_a_stop_was_asked_for() =>
        Assert.Equal(RunOutcome.Succeeded, RunReports.Classify(Ended("answered", 200), Record with { Cancelled = true }, new(RunOutcome.Preempted, false, ""), true).Outcome);

    [Fact]
    public void A_cancelled_run_is_the_callers_the_platforms_or_the_instances_by_who_asked()
    {
        Assert.Equal(RunOutcome.Cancelled, RunReports.Classify(Ended("cancelled"), Record with { Cancelled = true }, new(RunOutcome.Preempted, false, ""), true).Outcome);
        Assert.Equal(RunOutcome.Preempted, RunReports.Classify(Ended("cancelled"), Record, new(RunOutcome.Preempted, false, ""), true).Outcome);
        Assert.Equal(RunOutcome.Preempted, RunReports.Classify(Ended("cancelled"), Record, null, true).Outcome);
        Assert.Equal(RunOutcome.Crashed, RunReports.Classify(Ended("cancelled"), Record, new(null, false, "disk"), true).Outcome);
    }

    [Fact]
    public void A_crash_after_a_cancel_is_the_cancel() =>
        Assert.Equal(RunOutcome.Cancelled, RunReports.Classify(Ended("crashed"), Record with { Cancelled = true }, null, true).Outcome);

    [Fact]
    public void A_crash_with_an_instance_that_the_platform_ended_is_the_platforms() =>
        Assert.Equal(RunOutcome.Preempted, RunReports.Classify(Ended("crashed"), Record, new(RunOutcome.Preempted, false, "off"), true).Outcome);

    [Theory]
    [InlineData(RunOutcome.GpuFault, RunOutcome.GpuFault)]
    [InlineData(RunOutcome.GpuOutOfMemory, RunOutcome.GpuOutOfMemory)]
    [InlineData(RunOutcome.Crashed, null)]
    public void What_the_card_did_stands_whether_or_not_the_relay_lived_to_tell_the_end(RunOutcome failure, RunOutcome? fault)
    {
        var memo = new InstanceMemo { Failure = new LaunchFailure(failure, "why"), Stop = StopMode.Forced };
        var exited = new ContainerInfo("c", "i", ContainerState.Exited, new Dictionary<string, string>()) { ExitCode = 137 };
        Assert.Equal(new InstanceEnd(fault, false, "why"), RunReports.EndOf(memo));
        Assert.Equal(new InstanceEnd(fault, false, "why"), RunReports.EndOf(memo, rebooted: false, exited));
        Assert.Equal(new InstanceEnd(fault ?? RunOutcome.EngineError, false, "why"), RunReports.EndOf(memo, rebooted: false, null));
        Assert.Equal(RunOutcome.NodeLost, RunReports.EndOf(memo, rebooted: true, exited).Fault);
    }

    [Fact]
    public void An_instance_that_the_platform_ended_was_preempted_and_any_other_tells_its_code()
    {
        var exited = new ContainerInfo("c", "i", ContainerState.Exited, new Dictionary<string, string>()) { ExitCode = 3, OutOfMemory = true };
        Assert.Null(RunReports.EndOf(new InstanceMemo()));
        Assert.Equal((RunOutcome.Preempted, true), (RunReports.EndOf(new InstanceMemo { Stop = StopMode.Forced }, rebooted: false, exited) is { Fault: { } fault, OutOfMemory: var oom } ? (fault, oom) : default));
        Assert.Equal(new InstanceEnd(null, true, "The instance ended with code 3."), RunReports.EndOf(new InstanceMemo(), rebooted: false, exited));
        Assert.Equal(RunOutcome.EngineError, RunReports.EndOf(new InstanceMemo(), rebooted: false, null).Fault);
    }

    [Theory]
    [InlineData(false, false, false, RunOutcome.Crashed)]
    [InlineData(false, true, false, RunOutcome.HostOutOfMemory)]
    [InlineData(true, false, false, RunOutcome.Preempted)]
    [InlineData(true, true, true, RunOutcome.Cancelled)]
    public void A_run_that_went_with_its_instance_is_judged_by_that(bool preempted, bool outOfMemory, bool cancelled, RunOutcome expected) =>
        Assert.Equal(expected, RunReports.Classify(new RelayRun { State = "running" }, Record with { Cancelled = cancelled }, new(preempted ? RunOutcome.Preempted : null, outOfMemory, "x"), true).Outcome);

    [Fact]
    public void A_run_that_the_agent_had_to_kill_at_its_limit_timed_out() =>
        Assert.Equal(RunOutcome.TimedOut, RunReports.Classify(null, Record with { Overdue = true }, new(null, false, "x"), true).Outcome);

    [Fact]
    public void Success_without_its_answer_is_no_success() =>
        Assert.Equal(RunOutcome.FunctionError, RunReports.Classify(Ended("answered", 200) with { ResponseBytes = 5 }, Record, null, false).Outcome);
}

public sealed class LaunchPlannerTests
{
    private static readonly ImageInfo Image = new("sha256:1", ["/app"], ["serve"], [], "", "linux");
    private static readonly LaunchPlaces Places = new("/data/box", "/bin/relay");
    private static readonly NodeOptions Options = new() { Name = "node-1", Region = "r" };

    internal static LaunchOrder OrderOf(Func<FunctionSpec, FunctionSpec>? change = null)
    {
        var spec = new FunctionSpec { Name = "f", Container = new ContainerSpec { Image = "i" } };
        return new LaunchOrder
        {
            Lease = new Lease { InstanceId = "i-1", Account = "1001", Function = "f", Node = "node-1", NodeEpoch = 4, Cards = [new CardShare("GPU-1", 10, 1, 2)] },
            Spec = change?.Invoke(spec) ?? spec,
            Revision = 7,
        };
    }

    private static ContainerPlan Plan(Func<FunctionSpec, FunctionSpec>? change = null, params string[] real) =>
        LaunchPlanner.Plan(OrderOf(change), Image, Places, Options, 2, new HandOver(real, [], "compute,utility"));

    private static Dictionary<string, string> Env(ContainerPlan plan) =>
        plan.Environment.Select(line => line.Split('=', 2)).ToDictionary(pair => pair[0], pair => pair[1]);

    [Fact]
    public void The_relay_starts_what_the_image_says()
    {
        var plan = Plan();
        Assert.Equal(["/.gputasks-relay", "--", "/app"], plan.Entrypoint);
        Assert.Equal(["serve"], plan.Command);
        Assert.Equal(["/data/box:/.gputasks", "/bin/relay:/.gputasks-relay:ro"], plan.Binds);
        Assert.Equal("i-1", plan.Name);
        Assert.Equal("sha256:1", plan.Image);
        Assert.Equal("none", plan.Network);
    }

    [Fact]
    public void The_functions_own_start_command_drops_the_images_arguments()
    {
        var plan = Plan(spec => spec with { Container = spec.Container with { Entrypoint = ["/mine"] } });
        Assert.Equal(["/.gputasks-relay", "--", "/mine"], plan.Entrypoint);
        Assert.Empty(plan.Command);
        Assert.Equal(["x"], Plan(spec => spec with { Container = spec.Container with { Command = ["x"] } }).Command);
    }

    [Fact]
    public void An_image_without_a_start_command_is_refused()
    {
        var e = Assert.Throws<EngineException>(() => LaunchPlanner.Plan(OrderOf(), Image with { Entrypoint = [], Command = [] }, Places, Options, 2, HandOver.Nothing));
        Assert.Equal(EngineFault.ImageCannotStart, e.Fault);
    }

    [Fact]
    public void What_could_reach_cards_or_change_the_handover_is_taken_out_of_the_environment()
    {
        var env = Env(Plan(spec => spec with
        {
            Environment = new Dictionary<string, string>
            {
                ["MINE"] = "1",
                ["NVIDIA_VISIBLE_DEVICES"] = "all",
                ["nvidia_driver_capabilities"] = "all",
                ["CUDA_MPS_PIPE_DIRECTORY"] = "/x",
                ["AMD_VISIBLE_DEVICES"] = "all",
                ["LD_PRELOAD"] = "/x.so",
                ["FC_ACCOUNT_ID"] = "other",
            },
        }));
        Assert.Equal("1", env["MINE"]);
        Assert.Equal("void", env["NVIDIA_VISIBLE_DEVICES"]);
        Assert.Equal("1001", env["FC_ACCOUNT_ID"]);
        Assert.DoesNotContain(env.Keys, key => key is "nvidia_driver_capabilities" or "CUDA_MPS_PIPE_DIRECTORY" or "AMD_VISIBLE_DEVICES" or "LD_PRELOAD");
    }

    [Fact]
    public void Real_cards_are_handed_over_by_identity()
    {
        var plan = Plan(null, "GPU-1");
        Assert.Equal(["GPU-1"], plan.Cards.CardUuids);
        Assert.Equal("GPU-1", Env(plan)["NVIDIA_VISIBLE_DEVICES"]);
        Assert.Empty(Plan().Cards.CardUuids);
    }

    [Fact]
    public void Processors_are_cut_to_what_the_engine_has()
    {
        Assert.Equal(2_000_000_000, Plan(spec => spec with { Cpu = 16 }).NanoCpus);
        Assert.Equal(500_000_000, Plan(spec => spec with { Cpu = 0.5 }).NanoCpus);
    }

    [Fact]
    public void Internet_access_is_refused_without_an_egress_network_and_uses_it_otherwise()
    {
        var order = OrderOf(spec => spec with { InternetAccess = true });
        Assert.Contains("egress", LaunchPlanner.Refuse(order, Options)!.Message, StringComparison.Ordinal);
        Assert.Null(LaunchPlanner.Refuse(OrderOf(), Options));
        var egress = new NodeOptions { Name = "node-1", EgressNetwork = "out" };
        Assert.Null(LaunchPlanner.Refuse(order, egress));
        Assert.Equal("out", LaunchPlanner.Plan(order, Image, Places, egress, 2, HandOver.Nothing).Network);
    }

    [Fact]
    public void The_relay_hears_of_health_check_hooks_and_headers()
    {
        var config = LaunchPlanner.Configure(
            OrderOf(spec => spec with
            {
                InstanceConcurrency = 3,
                Initializer = new HookSpec("init", 5),
                PreStop = new HookSpec("stop", 6),
                Container = spec.Container with { Port = 8080, HealthCheck = new HealthCheckSpec { HttpGetUrl = "/ready", PeriodSeconds = 2 } },
            }),
            Options);
        Assert.Equal((8080, 3, 4L), (config.Port, config.Concurrency, config.Epoch));
        Assert.Equal(("/ready", 2_000), (config.HealthCheck!.Path, config.HealthCheck.PeriodMs));
        Assert.Equal((5_000, 6_000), (config.Initializer!.TimeoutMs, config.PreStop!.TimeoutMs));
        Assert.Equal("f", config.Headers["x-fc-function-name"]);
        Assert.Equal("1001", config.Headers["x-fc-account-id"]);
        Assert.Equal("init", config.Headers["x-fc-function-initializer"]);
    }

    /// <summary>docs/contract.md names every header and variable of the platform, and no other.</summary>
    [Fact]
    public void What_a_container_is_told_is_what_the_documents_say()
    {
        static FunctionSpec Full(FunctionSpec spec) => spec with
        {
            Initializer = new HookSpec("init", 5),
            PreStop = new HookSpec("stop", 6),
            StoredFields = new Dictionary<string, string> { ["logConfig"] = """{"project":"p","logstore":"l","enableRequestMetrics":true}""" },
        };

        var order = OrderOf(Full) with { Version = "3" };
        order = order with { Lease = order.Lease with { Cards = [new CardShare("GPU-1", 1_024, 63, 0, null)] } };
        var config = LaunchPlanner.Configure(order, Options);
        Assert.Equal(("p", "l", "3"), (config.Headers["x-fc-service-logproject"], config.Headers["x-fc-service-logstore"], config.Headers["x-fc-version-id"]));
        var run = new RunOrder { RunId = "t.1", InstanceId = "i", RequestId = "q", Limit = TimeSpan.FromSeconds(2), Task = new TaskKey("1", "f", "t"), Attempt = 1, Recorded = true };
        var headers = config.Headers.Keys
            .Concat(LaunchPlanner.Order(run, 1, "").Headers.Keys)
            .Concat(LaunchPlanner.Order(run with { Http = new HttpCall { Method = "GET", Target = "/a", BasePath = "/b", Headers = [] } }, 1, "").Headers.Keys)
            .Where(name => name.StartsWith("x-fc-", StringComparison.Ordinal));
        Assert.Equal(Told("### Request headers", "x-fc-[a-z-]+"), headers.Distinct().Order(StringComparer.Ordinal));
        var environment = LaunchPlanner.Plan(order, Image, Places, Options, 2, new HandOver(["GPU-1"], [], "compute,utility")).Environment.Select(pair => pair.Split('=')[0]);
        Assert.Equal(Told("### Environment", "[A-Z][A-Z_]+"), environment.Distinct().Order(StringComparer.Ordinal));

        static IEnumerable<string> Told(string section, string pattern)
        {
            using var stream = typeof(LaunchPlannerTests).Assembly.GetManifestResourceStream("contract.md")!;
            using var reader = new StreamReader(stream);
            var page = reader.ReadToEnd();
            var from = page.IndexOf(section, StringComparison.Ordinal);
            var part = page[from..page.IndexOf("\n#", from + 4, StringComparison.Ordinal)];
            return System.Text.RegularExpressions.Regex.Matches(part, $"`({pattern})`").Select(name => name.Groups[1].Value).Distinct().Order(StringComparer.Ordinal);
        }
    }

    [Fact]
    public void A_task_id_is_handed_over_only_when_the_task_is_recorded()
    {
        var order = new RunOrder { RunId = "t.2", InstanceId = "i", RequestId = "q", Limit = TimeSpan.FromSeconds(2), Task = new TaskKey("1", "f", "t"), Attempt = 2, RetryCount = 1 };
        Assert.DoesNotContain("x-fc-async-task-id", LaunchPlanner.Order(order, 1, "").Headers.Keys);
        var head = LaunchPlanner.Order(order with { Recorded = true }, 1, "c");
        Assert.Equal("t", head.Headers["x-fc-async-task-id"]);
        Assert.Equal("1", head.Headers["x-fc-retry-count"]);
        Assert.Equal(("/invoke", "POST", 2_000L), (head.Path, head.Method, head.LimitMs));
    }
}

public sealed class BoxTests
{
    [Fact]
    public void Documents_and_answers_are_read()
    {
        using var folder = new TestFolder();
        var box = MakeRun(folder, """{"runId":"r","state":"ended","outcome":"answered","statusCode":200,"unknown":[1]}""");
        Assert.Equal(200, box.ReadRun("r")!.StatusCode);
        Assert.Equal(["r"], box.ListRuns());
        var (bytes, cut) = box.ReadResponse("r", 3)!.Value;
        Assert.Equal("ans", Encoding.UTF8.GetString(bytes));
        Assert.True(cut);
        Assert.False(box.ReadResponse("r", 6)!.Value.Cut);
    }

    [Fact]
    public void What_is_no_document_counts_as_missing()
    {
        using var folder = new TestFolder();
        Assert.Null(MakeRun(folder, "{\"statusCode\":").ReadRun("r"));
        Assert.Null(new Box(folder.Path).ReadStatus());
        Assert.Null(new Box(folder.Path).ReadRun("none"));
        Assert.Null(new Box(folder.Path + "/none").ReadStatus());
        Assert.Empty(new Box(folder.Path + "/none").ListRuns());
    }

    [Fact]
    public void A_journal_tells_ends_and_may_hold_anything_else()
    {
        using var folder = new TestFolder();
        Assert.Empty(new Box(folder.Path).ReadJournal());
        File.WriteAllText(Path.Combine(folder.Path, "journal"), """
            {"runId":"a","order":{"path":"/invoke"}}
            {"runId":"a","end":{"runId":"a","state":"ended","outcome":"answered"},"answer":"b2s="}
            {"runId":"b","end":{"runId":"b","state":"running"}}
            {"end":{"state":"ended"}}
            [1]
            null
            {"runId":"c","end":{"runId":"c","state":"ended","outcome":"crashed"}}
            {"runId":"d","end":{"runId":"d","state":"end
            """);
        var ends = new Box(folder.Path).ReadJournal();
        Assert.Equal(["a", "c"], ends.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("ok", Encoding.UTF8.GetString(ends["a"].Answer!));
        Assert.Null(ends["c"].Answer);
    }

    [Fact]
    public void No_link_is_followed_wherever_it_is_put()
    {
        using var outside = new TestFolder();
        using var folder = new TestFolder();
        var box = MakeRun(folder, "{}");
        File.WriteAllText(Path.Combine(outside.Path, "response"), "secret");
        Directory.CreateDirectory(Path.Combine(outside.Path, "logs"));
        File.WriteAllText(Path.Combine(outside.Path, "logs", $"{0:D20}.log"), "secret");

        File.Delete(Path.Combine(folder.Path, "runs/r/response"));
        File.CreateSymbolicLink(Path.Combine(folder.Path, "runs/r/response"), Path.Combine(outside.Path, "response"));
        Assert.Null(box.ReadResponse("r", 100));

        Directory.CreateSymbolicLink(Path.Combine(folder.Path, "runs/s"), outside.Path);
        Assert.Null(box.ReadResponse("s", 100));

        Directory.CreateSymbolicLink(Path.Combine(folder.Path, "logs"), Path.Combine(outside.Path, "logs"));
        Assert.Empty(box.ReadLog(0, long.MaxValue, 100).Bytes);

        File.CreateSymbolicLink(Path.Combine(folder.Path, "status.json"), "/etc/hostname");
        Assert.Null(box.ReadStatus());

        File.WriteAllText(Path.Combine(outside.Path, "journal"), """{"runId":"a","end":{"state":"ended"}}""");
        File.CreateSymbolicLink(Path.Combine(folder.Path, "journal"), Path.Combine(outside.Path, "journal"));
        Assert.Empty(box.ReadJournal());
    }

    [Fact]
    public async Task A_socket_is_reached_by_a_path_of_any_length_but_not_through_a_link()
    {
        using var outside = new TestFolder();
        using var folder = new TestFolder();
        var deep = Directory.CreateDirectory(Path.Combine(folder.Path, new string('d', 120))).FullName;
        var real = Path.Combine(outside.Path, "s");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(real));
        listener.Listen();
        var box = new Box(deep);

        async Task ConnectAsync(string name)
        {
            using var inode = box.OpenSocket(name) ?? throw new IOException("none");
            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint($"/proc/self/fd/{inode.DangerousGetHandle()}"), TestContext.Current.CancellationToken);
        }

        File.CreateSymbolicLink(Path.Combine(deep, "link"), real);
        await Assert.ThrowsAsync<SocketException>(() => ConnectAsync("link"));
        await Assert.ThrowsAsync<IOException>(() => ConnectAsync("none"));
        File.Move(real, Path.Combine(deep, "own"));
        await ConnectAsync("own");
    }

    [Fact]
    public void Log_segments_read_as_one_and_what_is_gone_is_left_out()
    {
        using var folder = new TestFolder();
        var logs = Directory.CreateDirectory(Path.Combine(folder.Path, "logs")).FullName;
        File.WriteAllText(Path.Combine(logs, $"{10:D20}.log"), "0123456789");
        File.WriteAllText(Path.Combine(logs, $"{20:D20}.log"), "abcdef");
        File.WriteAllText(Path.Combine(logs, "note"), "x");
        var box = new Box(folder.Path);

        (long, string) Read(long from, long to, int limit)
        {
            var (start, bytes) = box.ReadLog(from, to, limit);
            return (start, Encoding.UTF8.GetString(bytes));
        }

        Assert.Equal((12, "23456789abcdef"), Read(12, long.MaxValue, 100));
        Assert.Equal((10, "0123"), Read(0, 14, 100));
        Assert.Equal((18, "89ab"), Read(18, 22, 100));
        Assert.Equal((12, "234"), Read(12, long.MaxValue, 3));
        Assert.Equal((26, ""), Read(26, long.MaxValue, 3));
        Assert.Equal((0, ""), Read(0, 10, 3));
    }

    internal static Box MakeRun(TestFolder folder, string document)
    {
        var run = Directory.CreateDirectory(Path.Combine(folder.Path, "runs/r")).FullName;
        File.WriteAllText(Path.Combine(run, "state.json"), document);
        File.WriteAllText(Path.Combine(run, "response"), "answer");
        return new Box(folder.Path);
    }
}

public sealed class RunLogsTests
{
    private static readonly TaskKey Key = new("1", "f", "t");

    private static Box BoxWith(TestFolder folder, params (long Start, string Text)[] segments)
    {
        var logs = Directory.CreateDirectory(Path.Combine(folder.Path, "box/logs")).FullName;
        foreach (var (start, text) in segments)
        {
            File.WriteAllText(Path.Combine(logs, $"{start:D20}.log"), text);
        }

        return new Box(Path.Combine(folder.Path, "box"));
    }

    [Fact]
    public void An_archived_log_is_read_by_cursor_to_its_end()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 1 << 20, TimeSpan.FromDays(1));
        var tail = logs.Archive(Key, 1, BoxWith(folder, (0, "0123456789"), (10, "abcdef")), 4, 14, 1_000);
        Assert.Equal("456789abcd", Encoding.UTF8.GetString(tail));
        var first = logs.Read(Key, 1, 0, 6)!;
        Assert.Equal(("456789", 6L, 0L, false), (Encoding.UTF8.GetString(first.Data), first.NextCursor, first.DroppedBytes, first.Complete));
        var second = logs.Read(Key, 1, 6, 100)!;
        Assert.Equal(("abcd", 10L, true), (Encoding.UTF8.GetString(second.Data), second.NextCursor, second.Complete));
        Assert.Equal(("", 10L, true), (Encoding.UTF8.GetString(logs.Read(Key, 1, 99, 5)!.Data), logs.Read(Key, 1, 99, 5)!.NextCursor, logs.Read(Key, 1, 99, 5)!.Complete));
        Assert.Null(logs.Read(Key, 2, 0, 100));
    }

    [Fact]
    public void What_the_relay_had_dropped_is_counted()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 1 << 20, TimeSpan.FromDays(1));
        logs.Archive(Key, 1, BoxWith(folder, (10, "abcdef")), 4, 14, 1_000);
        var chunk = logs.Read(Key, 1, 2, 100)!;
        Assert.Equal(("abcd", 10L, 4L, true), (Encoding.UTF8.GetString(chunk.Data), chunk.NextCursor, chunk.DroppedBytes, chunk.Complete));
    }

    [Fact]
    public void A_log_longer_than_the_limit_keeps_its_end()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 1 << 20, TimeSpan.FromDays(1));
        logs.Archive(Key, 1, BoxWith(folder, (0, "0123456789")), 0, 10, 4);
        var chunk = logs.Read(Key, 1, 0, 100)!;
        Assert.Equal(("6789", 10L, 6L), (Encoding.UTF8.GetString(chunk.Data), chunk.NextCursor, chunk.DroppedBytes));
    }

    [Fact]
    public void An_empty_log_is_complete()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 1 << 20, TimeSpan.FromDays(1));
        logs.Archive(Key, 1, BoxWith(folder), 0, 0, 4);
        Assert.True(logs.Read(Key, 1, 0, 100) is { Complete: true, Data.Length: 0 });
    }

    [Fact]
    public void Old_logs_and_the_oldest_beyond_the_total_are_deleted()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 15, TimeSpan.FromHours(1));
        var box = BoxWith(folder, (0, "0123456789"));
        for (var attempt = 1; attempt <= 3; attempt++)
        {
            logs.Archive(Key, attempt, box, 0, 7, 100);
            File.SetLastWriteTimeUtc(Path.Combine(folder.Path, $"logs/1/f/t.{attempt}.log"), DateTime.UtcNow.AddMinutes(attempt - 10));
        }

        Assert.Equal(1, logs.Trim(DateTime.UtcNow));
        Assert.Null(logs.Read(Key, 1, 0, 1));
        Assert.NotNull(logs.Read(Key, 3, 0, 1));
        Assert.Equal(2, logs.Trim(DateTime.UtcNow.AddHours(2)));
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(folder.Path, "logs"), "*", SearchOption.AllDirectories));
    }

    [Fact]
    public void A_key_that_could_mean_another_path_is_refused()
    {
        using var folder = new TestFolder();
        var logs = new RunLogs(folder.Path, 15, TimeSpan.FromHours(1));
        Assert.Throws<ArgumentException>(() => logs.Read(new TaskKey("..", "f", "t"), 1, 0, 1));
        Assert.Throws<ArgumentException>(() => logs.Read(new TaskKey("1", "f", "../../x"), 1, 0, 1));
    }
}

public sealed class SyncAnswersTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Who_waits_gets_the_answer_and_a_restart_loses_none()
    {
        using var folder = new TestFolder();
        var answers = new SyncAnswers(folder.Path, TimeProvider.System);
        Assert.Null(await answers.AwaitAsync("q", TimeSpan.FromMilliseconds(20), Token));
        var waiting = answers.AwaitAsync("q", TimeSpan.FromSeconds(10), Token);
        answers.Keep(new RunReport { RunId = "q", InstanceId = "i", Node = "n", Outcome = RunOutcome.Succeeded, Response = [1, 2] });
        Assert.Equal([1, 2], (await waiting)!.Response);
        var next = new SyncAnswers(folder.Path, TimeProvider.System);
        Assert.Equal([1, 2], (await next.AwaitAsync("q", TimeSpan.Zero, Token))!.Response);
    }

    [Fact]
    public async Task An_answer_is_forgotten_a_minute_after_it_was_given_and_ten_after_the_end()
    {
        using var folder = new TestFolder();
        var time = new SkippingClock();
        var answers = new SyncAnswers(folder.Path, time);
        foreach (var id in new[] { "given", "left" })
        {
            answers.Keep(new RunReport { RunId = id, InstanceId = "i", Node = "n", Outcome = RunOutcome.Succeeded });
        }

        await answers.AwaitAsync("given", TimeSpan.Zero, Token);
        time.Skip(TimeSpan.FromSeconds(61));
        answers.Trim();
        Assert.Equal(["left.body", "left.json"], Directory.EnumerateFiles(Path.Combine(folder.Path, "answers")).Select(Path.GetFileName).Order());
        time.Skip(TimeSpan.FromMinutes(10));
        answers.Trim();
        Assert.Empty(Directory.EnumerateFiles(Path.Combine(folder.Path, "answers")));
    }
}

public sealed class NodeOptionsTests
{
    [Fact]
    public void Every_fault_is_named_at_once()
    {
        var result = new NodeOptionsValidator().Validate(null, new NodeOptions
        {
            Name = "a/b",
            DataDirectory = "relative",
            RelayPath = "/no/such/relay",
            Cards = "x",
            PidsLimit = 1,
            StopGrace = TimeSpan.FromDays(1),
        });
        Assert.True(result.Failed);
        Assert.Equal(6, result.Failures.Count());
        Assert.All(result.Failures, fault => Assert.StartsWith("Node:", fault, StringComparison.Ordinal));
    }

    [Fact]
    public void Good_options_pass() => Assert.True(new NodeOptionsValidator()
        .Validate(null, new NodeOptions { DataDirectory = "/data", RelayPath = typeof(NodeOptionsTests).Assembly.Location, Cards = "a:1x2" }).Succeeded);
}
